//! What `--help` and the page of a command say of it: more than its line in the list of commands.

use clap::builder::StyledStr;
use clap::{Args, Command};

use crate::cli::{
    check, collect, decrypt_view, demo, doctor, encrypt_view, explain, history, init, migrate, mount, pin, pins,
    recall, report, stats, status, top, umount, unpin, where_is,
};

/// The description of a command, from its definition; none of what only groups others.
pub(super) fn of(name: &str) -> Option<StyledStr> {
    match name {
        "mount" => text::<mount::Mount>(),
        "umount" => text::<umount::Umount>(),
        "init" => text::<init::Init>(),
        "where" => text::<where_is::Where>(),
        "report" => text::<report::Report>(),
        "migrate" => text::<migrate::Migrate>(),
        "recall" => text::<recall::Recall>(),
        "pin" => text::<pin::Pin>(),
        "unpin" => text::<unpin::Unpin>(),
        "pins" => text::<pins::Pins>(),
        "explain" => text::<explain::Explain>(),
        "status" => text::<status::Status>(),
        "top" => text::<top::Top>(),
        "history" => text::<history::History>(),
        "stats" => text::<stats::Stats>(),
        "check" => text::<check::Check>(),
        "doctor" => text::<doctor::Doctor>(),
        "collect-info" => text::<collect::CollectInfo>(),
        "encrypt-view" => text::<encrypt_view::EncryptViewCommand>(),
        "decrypt-view" => text::<decrypt_view::DecryptViewCommand>(),
        "demo" => text::<demo::Demo>(),
        _ => None,
    }
}

fn text<T: Args>() -> Option<StyledStr> {
    let command = T::augment_args(Command::new(""));
    command.get_long_about().or_else(|| command.get_about()).cloned()
}

/// The program, in which the command of this name has its whole description.
pub(super) fn within(program: Command, name: Option<&str>) -> Command {
    match name.and_then(|name| Some((name.to_owned(), of(name)?))) {
        Some((name, text)) => program.mut_subcommand(name, |command| command.about(text)),
        None => program,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_command_is_described() {
        let program = crate::cli::Cli::command();
        let bare: Vec<&str> = program
            .get_subcommands()
            .filter(|command| !command.is_hide_set() && !command.has_subcommands())
            .filter(|command| of(command.get_name()).is_none_or(|text| Some(&text) == command.get_about()))
            .map(Command::get_name)
            .collect();
        assert!(bare.is_empty(), "{bare:?}");
    }
}
