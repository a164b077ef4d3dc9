//! Sizes and durations as administrators write them.

use std::time::Duration;

use super::attr::Time;

/// Parses a size: `4GiB`, `4G`, `4g` and `4 GiB` are all 4 × 1024³ bytes; a bare number is bytes.
///
/// `MB` and its like are refused: one half of the tools mean 1000 by it and the other half 1024.
///
/// # Errors
/// One line that says what is wrong and what to write.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (number, unit) = split_number(text);
    if number.is_empty() {
        return Err(format!("`{text}` is not a size: write a number and a unit, such as 4GiB"));
    }
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "ki" | "kib" => 10,
        "m" | "mi" | "mib" => 20,
        "g" | "gi" | "gib" => 30,
        "t" | "ti" | "tib" => 40,
        "p" | "pi" | "pib" => 50,
        "kb" | "mb" | "gb" | "tb" | "pb" => {
            let letter = unit[..1].to_ascii_uppercase();
            let says = format!("`{unit}` can mean 1000 or 1024: write {number}{letter}iB for 1024");
            return Err(says);
        }
        _ => {
            return Err(format!("`{unit}` is not a unit of size: use KiB, MiB, GiB or TiB"));
        }
    };
    scale(number, shift).ok_or_else(|| format!("`{text}` is not a size tierfs can hold"))
}

/// Parses bytes a second: a size, with or without `/s` after it. A bare small number is refused: `40` is 40 KiB to
/// some programs and 40 MiB to others, and by bytes nothing would ever end.
///
/// # Errors
/// One line that says what is wrong and what to write.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let text = text.trim();
    match parse_size(text.strip_suffix("/s").unwrap_or(text))? {
        0 => Err(format!("`{text}` would never end: leave it out for no limit")),
        number @ 1..1024 if text == number.to_string() => {
            Err(format!("`{text}` has no unit: write {text}MiB for so many MiB a second, {text}KiB for KiB"))
        }
        bytes => Ok(bytes),
    }
}

/// Parses a size as [`parse_size`] does, where bytes by the dozen are a unit forgotten.
///
/// # Errors
/// One line that says what is wrong and what to write.
pub fn parse_large(text: &str) -> Result<u64, String> {
    let text = text.trim();
    match parse_size(text)? {
        number @ 1..1024 if text == number.to_string() => {
            Err(format!("`{text}` has no unit: write {text}GiB or {text}MiB"))
        }
        bytes => Ok(bytes),
    }
}

/// `number`, which may have a fraction, times two to the power of `shift`.
fn scale(number: &str, shift: u32) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let unit = 1u64 << shift;
    let mut bytes = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.checked_mul(unit)? };
    if !fraction.is_empty() {
        // Nine digits are exact to less than a byte in a GiB; more only repeat what was meant.
        let digits = fraction.get(..fraction.len().min(9))?;
        let part = u128::from(digits.parse::<u64>().ok()?) * u128::from(unit);
        let divisor = 10u128.pow(u32::try_from(digits.len()).ok()?);
        bytes = bytes.checked_add(u64::try_from(part / divisor).ok()?)?;
    } else if number.ends_with('.') {
        return None;
    }
    Some(bytes)
}

/// A size as people read it: exact where the number is round, else with one decimal.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut value = bytes;
    let mut rest = false;
    while value >= 1024 && unit + 1 < UNITS.len() {
        rest |= !value.is_multiple_of(1024);
        value /= 1024;
        unit += 1;
    }
    if rest {
        #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
        let scaled = bytes as f64 / (1u64 << (10 * unit)) as f64;
        format!("{scaled:.1}{}", UNITS[unit])
    } else {
        format!("{value}{}", UNITS[unit])
    }
}

/// A size as [`parse_size`] reads it, exact to the byte.
pub fn exact_size(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes != 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// Parses a duration such as `500ms`, `5s`, `10min`, `3months` or `1y 6mo`; `0` is no time at all.
///
/// A bare `m` or `M` is refused: tools disagree whether it means minutes or months.
///
/// # Errors
/// One line that says what is wrong and what to write.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut plain = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after) = split_number(rest);
        let end = after.find(|c: char| c.is_ascii_digit() || c == ' ').unwrap_or(after.len());
        let (unit, more) = after.split_at(end);
        match unit {
            "m" | "M" => {
                let says = "can mean minutes or months: write";
                return Err(format!("`{number}{unit}` {says} {number}min or {number}mo"));
            }
            "" if !number.is_empty() => {
                return Err(format!(
                    "`{number}` has no unit: write {number}s for seconds, {number}h for hours, {number}d for days"
                ));
            }
            "mo" => plain.push_str(&format!("{number}months ")),
            _ => plain.push_str(&format!("{number}{unit} ")),
        }
        rest = more.trim_start();
    }
    humantime::parse_duration(plain.trim())
        .map_err(|_| format!("`{text}` is not a duration: write for example 500ms, 5s, 10min, 2h, 30d, 3mo or 1y"))
}

/// A duration as [`parse_duration`] reads it.
pub fn show_duration(duration: Duration) -> String {
    if duration.is_zero() {
        return "0".into();
    }
    // humantime writes minutes as `m`, which `parse_duration` refuses.
    let words = humantime::format_duration(duration).to_string();
    let words = words.split(' ').map(|word| match word.strip_suffix('m') {
        Some(number) if !number.is_empty() => format!("{number}min"),
        _ => word.to_string(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// How long a request took, from nanoseconds, in three figures at most: `870ns`, `12us`, `1.5ms`, `20s`.
#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
pub fn show_latency(ns: u64) -> String {
    let (unit, size) = match ns {
        0..1_000 => return format!("{ns}ns"),
        1_000..1_000_000 => ("us", 1e3),
        1_000_000..1_000_000_000 => ("ms", 1e6),
        _ => ("s", 1e9),
    };
    let amount = ns as f64 / size;
    if amount < 9.95 { format!("{amount:.1}{unit}") } else { format!("{amount:.0}{unit}") }
}

/// A moment as `2026-11-21 09:22:18 UTC`.
pub fn show_time(time: Time) -> String {
    let seconds = u64::try_from(time.sec).unwrap_or(0);
    let at = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(at).to_string().replace('T', " ").replace('Z', " UTC")
}

fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    (number, rest.trim_start())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("123", 123),
            ("123B", 123),
            ("4G", 4 << 30),
            ("4GiB", 4 << 30),
            (" 4 gib ", 4 << 30),
            ("1.5M", 3 << 19),
            (".5K", 512),
            ("2T", 2 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_a_hint() {
        for (text, says) in [
            ("", "write a number"),
            ("GiB", "write a number"),
            ("-4G", "write a number"),
            ("4MB", "4MiB"),
            ("4X", "not a unit"),
            ("4.", "not a size"),
            ("1.2.3G", "not a size"),
            ("99999999P", "not a size"),
        ] {
            let line = parse_size(text).unwrap_err();
            assert!(line.contains(says), "{text}: {line}");
        }
    }

    #[test]
    fn a_number_without_a_unit_is_refused_where_bytes_cannot_be_meant() {
        assert_eq!(
            (parse_rate("40M/s"), parse_rate("40M"), parse_rate("4096")),
            (Ok(40 << 20), Ok(40 << 20), Ok(4096))
        );
        assert!(parse_rate("40").unwrap_err().contains("write 40MiB"));
        assert!(parse_rate("0").unwrap_err().contains("would never end"));
        assert_eq!((parse_large("0"), parse_large("17B"), parse_large("4G")), (Ok(0), Ok(17), Ok(4 << 30)));
        assert!(parse_large("50").unwrap_err().contains("write 50GiB"));
        assert!(parse_duration("365").unwrap_err().contains("365d for days"));
    }

    #[test]
    fn durations_have_units() {
        for (text, secs) in [
            ("0", 0),
            ("5s", 5),
            ("10min", 600),
            ("2h 30min", 9000),
            ("2h30min", 9000),
            ("1d", 86400),
            ("1mo", 2_630_016),
            ("1y", 31_557_600),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(secs)), "{text}");
        }
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
    }

    #[test]
    fn what_is_no_duration_is_refused_with_a_hint() {
        for (text, says) in [
            ("5m", "5min or 5mo"),
            ("5M", "5min or 5mo"),
            ("5", "5s"),
            ("", "not a duration"),
            ("soon", "not a duration"),
            ("5 parsecs", "not a duration"),
        ] {
            let line = parse_duration(text).unwrap_err();
            assert!(line.contains(says), "{text}: {line}");
        }
    }

    #[test]
    fn a_moment_is_shown_in_utc() {
        assert_eq!(show_time(Time { sec: 1_000_000_000, nsec: 5 }), "2001-09-09 01:46:40 UTC");
    }

    #[test]
    fn latencies_are_shown_short() {
        let shown = [0, 999, 1000, 9940, 12_400, 999_000, 1_500_000, 20_000_000_000].map(show_latency);
        assert_eq!(shown, ["0ns", "999ns", "1.0us", "9.9us", "12us", "999us", "1.5ms", "20s"]);
    }

    #[test]
    fn sizes_are_shown_short() {
        assert_eq!(show_size(0), "0B");
        assert_eq!(show_size(4 << 30), "4GiB");
        assert_eq!(show_size(1536), "1.5KiB");
    }

    proptest! {
        #[test]
        fn a_shown_duration_reads_back(millis in 0u64..10_000_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }

        #[test]
        fn an_exact_size_reads_back(bytes in any::<u64>(), shift in 0u32..40) {
            let bytes = bytes >> shift << shift;
            prop_assert_eq!(parse_size(&exact_size(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in ".{0,40}") {
            let _ = parse_size(&text);
            let _ = parse_duration(&text);
        }
    }
}
