//! One JSON object a line: all columns by their keys, in the order of the schema, `null` for what is not known.
//!
//! The schema is stable: every key that was chosen is in every line, its unit is in its name, keys are added but never renamed
//! or given another meaning. `time` is RFC 3339 in UTC; `*_pct` are at full precision; `*_seconds` of CPU are the kernel's
//! counters since boot. The last key, [`REASONS_KEY`], is an object that says of each `null` why, by a word of
//! [`crate::schema::Missing::key`]; it is `null` itself when nothing is. `cpu_null_reason` says the same of the `cpu_*_pct`.

use crate::{
    csv::REASONS_KEY,
    format::{printable, put, put_time, put_whole},
    schema::{Frame, Value},
};

/// Appends the line of `frame` to `out`, without a newline.
pub fn line(out: &mut Vec<u8>, frame: &Frame) {
    let mut missing = false;
    for (at, (column, value)) in frame.cells().enumerate() {
        out.push(if at == 0 { b'{' } else { b',' });
        put_string(out, column.key.chars());
        out.push(b':');
        match value {
            Value::Missing(_) => {
                missing = true;
                out.extend_from_slice(b"null");
            }
            Value::Nothing => out.extend_from_slice(b"null"),
            Value::Time(wall_ns) => {
                out.push(b'"');
                put_time(out, wall_ns);
                out.push(b'"');
            }
            Value::Whole(whole) => put_whole(out, whole),
            Value::Real(real) => put(out, format_args!("{real}")),
            Value::Word(word) => put_string(out, word.chars()),
            Value::Boot(boot) => put_string(out, boot.as_str().chars()),
            Value::Name(name) => put_string(out, printable(name.as_bytes())),
        }
    }
    put(out, format_args!(",\"{REASONS_KEY}\":"));
    if missing {
        for (at, (column, why)) in
            frame.cells().filter_map(|(column, value)| Some((column, value.missing()?))).enumerate()
        {
            out.push(if at == 0 { b'{' } else { b',' });
            put_string(out, column.key.chars());
            put(out, format_args!(":\"{}\"", why.key()));
        }
        out.push(b'}');
    } else {
        out.extend_from_slice(b"null");
    }
    out.push(b'}');
}

/// A string without control characters, which are the only others JSON would want escaped.
fn put_string(out: &mut Vec<u8>, chars: impl Iterator<Item = char>) {
    out.push(b'"');
    for char in chars {
        match char {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            char => put(out, format_args!("{char}")),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fields::tests::{bare, full},
        schema::Name,
    };

    fn json(frame: &Frame) -> String {
        let mut out = Vec::new();
        line(&mut out, frame);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_line_is_an_object_with_all_keys_and_a_reason_for_each_null() {
        for frame in [full(), bare()] {
            let object: serde_json::Value = serde_json::from_str(&json(&frame)).unwrap();
            let keys = object.as_object().unwrap();
            assert_eq!(keys.len(), frame.schema.columns().len() + 1);
            assert!(frame.schema.columns().iter().all(|column| keys.contains_key(&*column.key)));
            for (column, value) in frame.cells() {
                let reason = keys[REASONS_KEY].get(&*column.key).and_then(|why| why.as_str());
                assert_eq!(reason, value.missing().map(crate::schema::Missing::key), "{}", column.key);
            }
        }
    }

    #[test]
    fn a_name_stays_a_string() {
        let mut frame = full();
        frame.values[1] = Value::Name(Name::new(b"\"},\n\\\xff<b>"));
        let object: serde_json::Value = serde_json::from_str(&json(&frame)).unwrap();
        assert_eq!(object["cpu_busy_pct"], "\"},?\\?<b>");
    }

    /// The promise to whoever reads these lines: this text changes only by keys added.
    #[test]
    fn the_schema_is_stable() {
        assert_eq!(
            json(&full()),
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
                r#""monotonic_seconds":1.5,"boottime_seconds":1.75,"boot_id":"49c14376-1a7d-47d9-8ce7-4aa5f5f6774f","#,
                r#""null_reasons":null}"#
            )
        );
    }
}
