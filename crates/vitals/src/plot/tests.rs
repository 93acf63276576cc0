use super::*;

fn day() -> Recording {
    let mut recording = Recording::default();
    for second in (0..86_400_i64).step_by(10).filter(|second| !(30_000..40_000).contains(second)) {
        let turn = second as f64 / 3600.0;
        let busy = 35.0 + 30.0 * (turn * 0.7).sin() + 12.0 * (turn * 9.0).sin() + (second * 7919 % 13) as f64;
        let used = (3.0 + (turn * 0.4).sin()) * f64::from(1 << 30);
        let swap = (turn * 20.0) * f64::from(1 << 20);
        let values =
            [busy, busy * 0.3, (turn * 3.0).sin().max(0.0) * 9.0, 0.0, used, swap, 8.0 * f64::from(1 << 30)].map(Some);
        recording.push(1_700_000_000_000 + second * 1000, &values);
    }
    recording
}

fn look<'a>(title: &'a str, dark: bool) -> Look<'a> {
    Look { size: (1200, 640), dark, title, offset_ms: &|_| 3_600_000, zone: "CET" }
}

#[test]
fn a_picture_has_units_a_legend_and_a_gap() {
    let drawn = svg(&day(), &look("web-1", false)).unwrap();
    for word in ["CPU", "Memory", "100 %", "8 GiB", "busy", "swap used", "no data", "15 Nov 2023", "CET", "web-1"] {
        assert!(drawn.contains(word), "{word}");
    }
    // Nothing of a series was drawn in the middle of the gap.
    assert!(!drawn.contains("NaN") && drawn.starts_with("<svg ") && drawn.trim_end().ends_with("</svg>"));
}

#[test]
fn a_png_has_the_size_asked_for_in_both_looks() {
    let pixels: Vec<Vec<u8>> = [false, true]
        .map(|dark| {
            let drawn = png(&day(), &look("web-1", dark)).unwrap();
            if let Ok(place) = std::env::var("LOCKSTEP_TEST_PICTURES") {
                std::fs::write(format!("{place}/plot-{dark}.png"), &drawn).unwrap();
            }
            let mut reader = png::Decoder::new(std::io::Cursor::new(drawn)).read_info().unwrap();
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            let info = reader.next_frame(&mut pixels).unwrap();
            assert_eq!((info.width, info.height), (1200, 640));
            pixels
        })
        .into();
    assert!(pixels[0][..3].iter().all(|part| *part > 240) && pixels[1][..3].iter().all(|part| *part < 40));
}

#[test]
fn any_title_is_text_and_stays_within_its_line() {
    let title = "</text><script>&\"'\u{0}\u{1b}[31m\u{ffff}\u{202e}\n".repeat(50);
    let drawn = svg(&day(), &look(&title, true)).unwrap();
    assert!(!drawn.contains("<script>") && drawn.contains("&lt;script&gt;") && drawn.contains('…'));
    assert!(!drawn.contains(|char: char| (char.is_control() && char != '\n') || char == '\u{ffff}'));
    png(&day(), &look(&title, true)).unwrap();
}

#[test]
fn little_is_drawn_too_and_nothing_is_refused() {
    let mut one = Recording::default();
    assert!(matches!(svg(&one, &look("", false)), Err(PlotError::Nothing)));
    one.push(0, &Values::default());
    assert!(matches!(png(&one, &look("", false)), Err(PlotError::Nothing)));
    for at_ms in [5, i64::MAX, i64::MIN] {
        one.push(at_ms, &[Some(f64::MAX); KEYS.len()]);
        assert!(svg(&one, &look("", false)).unwrap().contains("<circle"));
        assert!(!png(&one, &look("", false)).unwrap().is_empty());
    }
    for size in [(479, 360), (480, 359), (4097, 360), (u32::MAX, u32::MAX)] {
        assert!(matches!(svg(&one, &Look { size, ..look("", false) }), Err(PlotError::Size)), "{size:?}");
    }
    for size in [SIZE_MIN, SIZE_MAX] {
        svg(&one, &Look { size, ..look("a long title of a small picture, with many words in it", false) }).unwrap();
    }
}
