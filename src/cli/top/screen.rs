//! The terminal: taken, drawn on, and given back however the command ends.

use std::sync::mpsc::Receiver;
use std::time::{Duration, UNIX_EPOCH};

use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::{DefaultTerminal, Terminal};

use super::draw::draw;
use super::state::{Key, News, View};
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::sys::process;

/// How long a wait for a key is at most, so that answers and signals are seen.
const TICK: Duration = Duration::from_millis(50);

/// Given back when dropped. A panic gives it back as well: `ratatui` has put itself before what prints it.
struct Taken(DefaultTerminal);

impl Drop for Taken {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = ratatui::try_restore();
    }
}

/// Shows `view` until the user or the mount ends it.
///
/// # Errors
/// Where the terminal cannot be used, and one line where the mount ends.
pub(super) fn show(mut view: View, news: &Receiver<News>) -> Outcome {
    let broken = |error: std::io::Error| Failure::error(format!("the terminal: {error}"));
    process::catch_stop().map_err(|errno| Failure::error(format!("sigaction: {errno}")))?;
    let mut terminal = Taken(ratatui::try_init().map_err(broken)?);
    let mut stale = true;
    loop {
        for one in news.try_iter() {
            stale = true;
            if let Some(line) = view.take(one) {
                drop(terminal);
                return Err(Failure::error(line));
            }
        }
        if process::should_stop() {
            return Ok(Exit::Interrupted);
        }
        if std::mem::take(&mut stale) {
            terminal.0.draw(|frame| draw(frame, &view, now())).map_err(broken)?;
        }
        let come = match event::poll(TICK) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            other => other.map_err(broken)?,
        };
        if !come {
            continue;
        }
        stale = true;
        match event::read().map_err(broken)? {
            Event::Key(key) if key.kind == KeyEventKind::Release => {}
            Event::Key(key) if key.modifiers.contains(KeyModifiers::CONTROL) => match key.code {
                KeyCode::Char('c' | 'd') => return Ok(Exit::Ok),
                // Draws everything anew, as elsewhere. A terminal that does not say where its cursor is cannot.
                KeyCode::Char('l') => {
                    let _not_cleared = terminal.0.clear();
                }
                _ => {}
            },
            Event::Key(key) if key_of(key.code).is_some_and(|key| view.press(key)) => return Ok(Exit::Ok),
            _ => {}
        }
    }
}

fn key_of(code: KeyCode) -> Option<Key> {
    Some(match code {
        KeyCode::Char(letter) => Key::Letter(letter),
        KeyCode::Tab => Key::Letter('\t'),
        KeyCode::Left | KeyCode::BackTab => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Esc => Key::Escape,
        _ => return None,
    })
}

pub(super) fn now() -> u64 {
    UNIX_EPOCH.elapsed().unwrap_or_default().as_secs()
}

/// One frame as text, without a terminal.
///
/// # Errors
/// None that can happen: it is drawn into memory.
pub(super) fn plain(view: &View, width: u16, height: u16) -> Result<String, Failure> {
    let backend = ratatui::backend::TestBackend::new(width, height);
    let mut terminal = Terminal::new(backend).map_err(Failure::error)?;
    terminal.draw(|frame| draw(frame, view, now())).map_err(Failure::error)?;
    Ok(text_of(terminal.backend().buffer()))
}

/// The lines of a frame, without spaces at their ends.
pub(super) fn text_of(buffer: &Buffer) -> String {
    let Rect { width, height, .. } = buffer.area;
    let mut text = String::new();
    for y in 0..height {
        let line: String = (0..width).filter_map(|x| buffer.cell((x, y))).map(|cell| cell.symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
