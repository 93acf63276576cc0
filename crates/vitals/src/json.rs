//! One JSON object a line: all fields of [`FIELDS`] by their keys, in the order of the table, `null` for what is not known.
//!
//! The schema is stable: every key is in every line, its unit is in its name, keys are added but never renamed or given
//! another meaning. `time` is RFC 3339 in UTC; `*_pct` are 0 to 100 at full precision; `cpu_*_seconds` are the kernel's
//! counters since boot; where the `cpu_*_pct` are `null`, `cpu_null_reason` is one of the words of [`crate::NoRate::key`].

use crate::fields::{FIELDS, Row, Value, put, put_time};

/// Appends the line of `row` to `out`, without a newline.
pub fn line(out: &mut Vec<u8>, row: &Row<'_>) {
    for (at, field) in FIELDS.iter().enumerate() {
        out.push(if at == 0 { b'{' } else { b',' });
        put(out, format_args!("\"{}\":", field.key));
        match (field.value)(row) {
            Value::Missing => out.extend_from_slice(b"null"),
            Value::Time(wall_ns) => {
                out.push(b'"');
                put_time(out, wall_ns);
                out.push(b'"');
            }
            Value::Whole(whole) => put(out, format_args!("{whole}")),
            Value::Real(real) => put(out, format_args!("{real}")),
            Value::Word(word) => put(out, format_args!("\"{word}\"")),
            Value::Boot(boot) => put(out, format_args!("\"{}\"", boot.as_str())),
        }
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::tests::{bare, full};

    fn json((sample, rates): (crate::Sample, crate::Rates)) -> String {
        let mut out = Vec::new();
        line(&mut out, &Row { sample: &sample, rates: &rates });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_line_is_an_object_with_all_keys() {
        for row in [full(), bare()] {
            let object: serde_json::Value = serde_json::from_str(&json(row)).unwrap();
            let keys = object.as_object().unwrap();
            assert_eq!(keys.len(), FIELDS.len());
            assert!(FIELDS.iter().all(|field| keys.contains_key(field.key)));
        }
    }

    /// The promise to whoever reads these lines: this text changes only by keys added.
    #[test]
    fn the_schema_is_stable() {
        assert_eq!(
            json(full()),
            concat!(
                r#"{"time":"2023-11-14T22:13:20.123Z","cpu_busy_pct":35,"cpu_user_pct":10,"cpu_nice_pct":5,"#,
                r#""cpu_system_pct":10,"cpu_idle_pct":60,"cpu_iowait_pct":5,"cpu_irq_pct":1,"cpu_softirq_pct":2,"#,
                r#""cpu_steal_pct":7,"cpu_null_reason":null,"cpu_clamped_fields":0,"cpus_online":1,"#,
                r#""mem_used_pct":25,"mem_used_bytes":2147483648,"mem_available_bytes":6442450944,"#,
                r#""mem_total_bytes":8589934592,"mem_free_bytes":1073741824,"mem_buffers_bytes":67108864,"#,
                r#""mem_cached_bytes":4563402752,"mem_shared_bytes":1048576,"mem_used_htop_bytes":2885681152,"#,
                r#""swap_total_bytes":2147483648,"swap_used_bytes":1536,"load_1m":0.5,"load_5m":1.25,"load_15m":10,"#,
                r#""cpu_user_seconds":0.1,"cpu_nice_seconds":0.05,"cpu_system_seconds":0.1,"cpu_idle_seconds":0.6,"#,
                r#""cpu_iowait_seconds":0.05,"cpu_irq_seconds":0.01,"cpu_softirq_seconds":0.02,"#,
                r#""cpu_steal_seconds":0.07,"cpu_guest_seconds":0.03,"cpu_guest_nice_seconds":0.01,"#,
                r#""monotonic_seconds":1.5,"boottime_seconds":1.75,"boot_id":"49c14376-1a7d-47d9-8ce7-4aa5f5f6774f"}"#
            )
        );
    }
}
