//! Lines for people: the fields that have room, rounded, aligned, `-` for what is not known.

use crate::fields::{FIELDS, Row, Unit, Value, put, put_time};

/// Appends the line of `row` to `out`, without a newline: the time in RFC 3339, then title and value of each field, and at the
/// end why there is no CPU rate, if there is none.
pub fn line(out: &mut Vec<u8>, row: &Row<'_>) {
    for field in FIELDS.iter().filter(|field| field.in_text) {
        let value = (field.value)(row);
        if field.unit != Unit::Time {
            put(out, format_args!("  {} ", field.title));
        }
        match (field.unit, value) {
            (Unit::Percent, Value::Real(percent)) => put(out, format_args!("{percent:>5.1}%")),
            (Unit::Percent, _) => put(out, format_args!("{:>6}", "-")),
            (Unit::Bytes, Value::Whole(bytes)) => put_bytes(out, bytes),
            (Unit::Bytes, _) => put(out, format_args!("{:>10}", "-")),
            (_, Value::Time(wall_ns)) => put_time(out, wall_ns),
            (_, Value::Whole(whole)) => put(out, format_args!("{whole}")),
            (_, Value::Real(real)) => put(out, format_args!("{real:.2}")),
            (_, Value::Word(word)) => put(out, format_args!("{word}")),
            (_, Value::Boot(boot)) => put(out, format_args!("{}", boot.as_str())),
            (_, Value::Missing) => put(out, format_args!("-")),
        }
    }
    if let Err(reason) = row.rates.cpu {
        put(out, format_args!("  (no cpu rate: {})", reason.key()));
    }
}

/// Ten columns: a number below 1024 with one decimal, and a unit of 1024.
fn put_bytes(out: &mut Vec<u8>, bytes: u64) {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut scaled = bytes as f64;
    let mut unit = 0;
    // From here on one decimal would print 1024.0.
    while scaled >= 1023.95 && unit < UNITS.len() - 1 {
        scaled /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0);
    put(out, format_args!("{scaled:>6.decimals$} {:<3}", UNITS[unit]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::tests::{bare, full};

    fn text((sample, rates): (crate::Sample, crate::Rates)) -> String {
        let mut out = Vec::new();
        line(&mut out, &Row { sample: &sample, rates: &rates });
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
    fn bytes_take_ten_columns_and_never_show_1024() {
        let show = |bytes| {
            let mut out = Vec::new();
            put_bytes(&mut out, bytes);
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
