//! Lines for people: the columns that have room, rounded, aligned, `-` for what is not known.

use crate::{
    format::{printable, put, put_tenths, put_time, put_whole},
    schema::{Frame, Missing, Unit, Value},
};

/// Appends the line of `frame` to `out`, without a newline: the time in RFC 3339, then title and value of each column, and at
/// the end why there is no CPU rate, if there is none.
pub fn line(out: &mut Vec<u8>, frame: &Frame) {
    for (column, value) in frame.cells().filter(|(column, _)| column.in_text) {
        if column.unit != Unit::Time {
            out.extend_from_slice(b"  ");
            out.extend_from_slice(column.title.as_bytes());
            out.push(b' ');
        }
        match (column.unit, value) {
            (Unit::Percent, Value::Real(percent)) => {
                put_tenths(out, percent, 5);
                out.push(b'%');
            }
            (Unit::Percent, _) => put(out, format_args!("{:>6}", "-")),
            (Unit::Bytes, Value::Whole(bytes)) => put_bytes(out, bytes as f64, ""),
            (Unit::Bytes, _) => put(out, format_args!("{:>10}", "-")),
            (Unit::BytesPerSecond, Value::Real(bytes)) => put_bytes(out, bytes, "/s"),
            (Unit::BytesPerSecond, _) => put(out, format_args!("{:>12}", "-")),
            (Unit::Seconds, Value::Real(seconds)) => put(out, format_args!("{seconds:.0}s")),
            (_, Value::Time(wall_ns)) => put_time(out, wall_ns),
            (_, Value::Whole(whole)) => put_whole(out, whole),
            (_, Value::Real(real)) => put(out, format_args!("{real:.2}")),
            (_, Value::Word(word)) => put(out, format_args!("{word}")),
            (_, Value::Boot(boot)) => put(out, format_args!("{}", boot.as_str())),
            (_, Value::Name(name)) => printable(name.as_bytes()).for_each(|char| put(out, format_args!("{char}"))),
            (_, Value::Missing(_) | Value::Nothing) => put(out, format_args!("-")),
        }
    }
    let busy = frame.cells().find(|(column, _)| column.key == "cpu_busy_pct");
    if let Some((_, Value::Missing(why @ Missing::NoRate(_)))) = busy {
        put(out, format_args!("  (no cpu rate: {})", why.key()));
    }
}

/// A number as people read it, by the [name](Unit::name) of what it is measured in, without spaces around it.
pub fn shown(unit: &str, number: f64) -> String {
    let is = |known: Unit| unit == known.name();
    let mut out = Vec::new();
    if is(Unit::Percent) {
        put(&mut out, format_args!("{number:.1}%"));
    } else if is(Unit::Bytes) {
        put_bytes(&mut out, number, "");
    } else if is(Unit::BytesPerSecond) {
        put_bytes(&mut out, number, "/s");
    } else if is(Unit::Seconds) {
        put(&mut out, format_args!("{number:.1}s"));
    } else {
        put(&mut out, format_args!("{number:.2}"));
    }
    String::from_utf8_lossy(&out).trim().replace(" /s", "/s")
}

/// Ten columns: a number below 1024 with one decimal, and a unit of 1024.
fn put_bytes(out: &mut Vec<u8>, bytes: f64, after: &str) {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut scaled = bytes;
    let mut unit = 0;
    // From here on one decimal would print 1024.0.
    while scaled >= 1023.95 && unit < UNITS.len() - 1 {
        scaled /= 1024.0;
        unit += 1;
    }
    let start = out.len();
    if unit > 0 {
        put_tenths(out, scaled, 6);
    } else {
        put(out, format_args!("{scaled:>6.0}"));
    }
    out.push(b' ');
    out.extend_from_slice(UNITS[unit].as_bytes());
    out.extend_from_slice(after.as_bytes());
    // Units have one to three letters.
    out.resize(out.len().max(start + 10 + after.len()), b' ');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::tests::{bare, full};

    fn text(frame: Frame) -> String {
        let mut out = Vec::new();
        line(&mut out, &frame);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn m1_1_m1_2_a_line_tells_time_cpu_and_memory() {
        assert_eq!(
            text(full()),
            "2023-11-14T22:13:20.123Z  cpu  35.0%  user  10.0%  system  10.0%  iowait   5.0%  steal   7.0%  \
             memory  25.0%  used    2.0 GiB  available    6.0 GiB  total    8.0 GiB  swap used    1.5 KiB  load 0.50"
        );
    }

    #[test]
    fn what_is_not_known_is_a_dash_with_the_reason() {
        assert_eq!(
            text(bare()),
            "1970-01-01T00:00:00.000Z  cpu      -  user      -  system      -  iowait      -  steal      -  \
             memory      -  used          -  available          -  total    1.0 KiB  swap used          -  load -  \
             (no cpu rate: first_sample)"
        );
    }

    #[test]
    fn a_number_alone_is_shown_with_its_unit() {
        let units = [Unit::Percent, Unit::Bytes, Unit::BytesPerSecond, Unit::Seconds, Unit::Number];
        let shown = units.map(|unit| shown(unit.name(), 1536.0));
        assert_eq!(shown, ["1536.0%", "1.5 KiB", "1.5 KiB/s", "1536.0s", "1536.00"]);
    }

    #[test]
    fn bytes_take_ten_columns_and_never_show_1024() {
        let show = |bytes: u64| {
            let mut out = Vec::new();
            put_bytes(&mut out, bytes as f64, "");
            String::from_utf8(out).unwrap()
        };
        for (bytes, expected) in [
            (0, "     0 B  "),
            (1023, "  1023 B  "),
            (1024, "   1.0 KiB"),
            ((1 << 20) - 1, "   1.0 MiB"),
            (1 << 40, "   1.0 TiB"),
            (u64::MAX, "  16.0 EiB"),
        ] {
            assert_eq!(show(bytes), expected);
        }
    }
}
