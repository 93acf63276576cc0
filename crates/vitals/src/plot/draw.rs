//! What a picture shows and where: two panels, CPU above memory, over one axis of time.

use plotters::{
    prelude::DrawingBackend,
    style::text_anchor::{HPos, VPos},
};

use super::{
    Look, PlotError, Recording, axis,
    paint::{Canvas, Color},
    recording::Point,
};
use crate::format::printable;

/// The colours of one look.
struct Colors {
    ground: Color,
    word: Color,
    faint: Color,
    grid: Color,
    edge: Color,
    silence: Color,
    busy: Color,
    system: Color,
    iowait: Color,
    steal: Color,
    used: Color,
    swap: Color,
}

const LIGHT: Colors = Colors {
    ground: Color(255, 255, 255),
    word: Color(28, 33, 43),
    faint: Color(102, 112, 133),
    grid: Color(232, 235, 241),
    edge: Color(190, 197, 209),
    silence: Color(241, 243, 247),
    busy: Color(37, 99, 235),
    system: Color(217, 119, 6),
    iowait: Color(220, 38, 38),
    steal: Color(124, 58, 237),
    used: Color(13, 148, 136),
    swap: Color(219, 39, 119),
};

const DARK: Colors = Colors {
    ground: Color(15, 20, 26),
    word: Color(232, 236, 242),
    faint: Color(147, 157, 173),
    grid: Color(34, 42, 52),
    edge: Color(65, 77, 92),
    silence: Color(23, 29, 37),
    busy: Color(96, 165, 250),
    system: Color(251, 191, 36),
    iowait: Color(248, 113, 113),
    steal: Color(167, 139, 250),
    used: Color(45, 212, 191),
    swap: Color(244, 114, 182),
};

/// A series as it is drawn.
struct Series {
    /// Its place in [`super::KEYS`].
    at: usize,
    name: &'static str,
    color: Color,
    /// With the ground below it filled, and the least and the most around it.
    filled: bool,
}

/// Where a panel is, and what its vertical axis spans.
struct Panel {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    from_ms: i64,
    to_ms: i64,
    max: f64,
}

impl Panel {
    fn x(&self, at_ms: i64) -> f64 {
        let span = (self.to_ms as f64 - self.from_ms as f64).max(1.0);
        self.left + (at_ms as f64 - self.from_ms as f64) / span * (self.right - self.left)
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - (value / self.max).clamp(0.0, 1.0) * (self.bottom - self.top)
    }
}

const LEFT: f64 = 74.0;
const RIGHT: f64 = 26.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = 52.0;
/// The room above a panel for its name and legend.
const LEGEND: f64 = 36.0;
/// The width a mark of time needs.
const MARK_WIDTH: f64 = 92.0;
/// A value below it is not drawn where it is all there ever was: a line along the bottom says nothing.
const VISIBLE_PCT: f64 = 0.5;

/// Draws all of it.
pub(super) fn draw<B: DrawingBackend>(
    canvas: &mut Canvas<'_, B>,
    recording: &Recording,
    look: &Look<'_>,
) -> Result<(), PlotError> {
    let colors = if look.dark { &DARK } else { &LIGHT };
    let (width, height) = (f64::from(look.size.0), f64::from(look.size.1));
    let (from_ms, to_ms) = recording.span().ok_or(PlotError::Nothing)?;
    canvas.rect((0.0, 0.0), (width, height), colors.ground, 1.0)?;
    words_above(canvas, (from_ms, to_ms), recording, look, colors)?;
    // A single moment has no width.
    let (from_ms, to_ms) = if from_ms == to_ms {
        (from_ms.saturating_sub(30_000), to_ms.saturating_add(30_000))
    } else {
        (from_ms, to_ms)
    };
    let each = (height - TOP - BOTTOM - LEGEND * 2.0 - 12.0) / 2.0;
    let panel =
        |top: f64, max: f64| Panel { left: LEFT, right: width - RIGHT, top, bottom: top + each, from_ms, to_ms, max };
    let max = |at: usize| recording.max(at);

    let cpu = panel(TOP + LEGEND, 100.0);
    let all = [
        (0, "busy", colors.busy),
        (1, "system", colors.system),
        (2, "iowait", colors.iowait),
        (3, "steal", colors.steal),
    ];
    let seen = |at: usize| max(at).is_some_and(|max| at < 2 || max >= VISIBLE_PCT);
    let series = all.into_iter().filter(|(at, ..)| seen(*at));
    let series: Vec<Series> = series.map(|(at, name, color)| Series { at, name, color, filled: at == 0 }).collect();
    let marks: Vec<(f64, String)> =
        (0..=4).map(|at| f64::from(at) * 25.0).map(|pct| (pct, format!("{pct:.0} %"))).collect();
    frame(canvas, &cpu, &marks, recording, look, colors)?;
    draw_panel(canvas, &cpu, ("CPU", "percent of all CPUs"), &series, recording, colors, &|value| {
        format!("{value:.1} %")
    })?;

    let total = max(6);
    let top = [max(4), max(5), total].into_iter().flatten().fold(0.0, f64::max);
    let marks = axis::bytes(top, 4);
    let highest = marks.last().copied().unwrap_or(0.0).max(1.0);
    let memory = panel(cpu.bottom + LEGEND + 12.0, highest);
    let marks: Vec<(f64, String)> = marks.into_iter().map(|bytes| (bytes, axis::bytes_label(bytes))).collect();
    frame(canvas, &memory, &marks, recording, look, colors)?;
    let all = [(4, "used", colors.used), (5, "swap used", colors.swap), (6, "total", colors.faint)];
    let series = all.into_iter().filter(|(at, ..)| max(*at).is_some_and(|max| max > 0.0 || *at == 4));
    let series: Vec<Series> = series.map(|(at, name, color)| Series { at, name, color, filled: at == 4 }).collect();
    draw_panel(canvas, &memory, ("Memory", "bytes"), &series, recording, colors, &axis::bytes_label)?;
    times(canvas, &memory, look, colors)
}

fn words_above<B: DrawingBackend>(
    canvas: &mut Canvas<'_, B>,
    (from_ms, to_ms): (i64, i64),
    recording: &Recording,
    look: &Look<'_>,
    colors: &Colors,
) -> Result<(), PlotError> {
    let room = f64::from(look.size.0) - LEFT - RIGHT;
    let title = clean(look.title);
    let title = canvas.fitting(&title, 19.0, room)?;
    canvas.text(&title, (LEFT, 30.0), 19.0, colors.word, (HPos::Left, VPos::Center))?;
    let samples = recording.samples();
    let (from, to, zone) = (axis::moment(from_ms, look), axis::moment(to_ms, look), clean(look.zone));
    let ends = format!("{from} – {to} {zone}  ·  {samples} samples");
    let ends = canvas.fitting(&ends, 12.5, room)?;
    canvas.text(&ends, (LEFT, 53.0), 12.5, colors.faint, (HPos::Left, VPos::Center))
}

/// What is not to be in a picture's text is `?`: XML has no word for control characters.
fn clean(text: &str) -> String {
    printable(text.as_bytes()).map(|char| if matches!(char, '\u{fffe}' | '\u{ffff}') { '?' } else { char }).collect()
}

/// The marks of both axes, and the time in which nothing was recorded.
fn frame<B: DrawingBackend>(
    canvas: &mut Canvas<'_, B>,
    panel: &Panel,
    marks: &[(f64, String)],
    recording: &Recording,
    look: &Look<'_>,
    colors: &Colors,
) -> Result<(), PlotError> {
    for mark in times_of(panel, look) {
        canvas.line(&[(panel.x(mark.at_ms), panel.top), (panel.x(mark.at_ms), panel.bottom)], colors.grid, 1.0)?;
    }
    for (value, label) in marks {
        let y = panel.y(*value);
        let color = if *value == 0.0 { colors.edge } else { colors.grid };
        canvas.line(&[(panel.left, y), (panel.right, y)], color, 1.0)?;
        canvas.text(label, (panel.left - 10.0, y), 12.0, colors.faint, (HPos::Right, VPos::Center))?;
    }
    for (from_ms, to_ms) in recording.silences() {
        let (left, right) = (panel.x(from_ms), panel.x(to_ms));
        canvas.rect((left, panel.top), (right, panel.bottom), colors.silence, 1.0)?;
        if right - left >= 60.0 {
            let middle = ((left + right) / 2.0, (panel.top + panel.bottom) / 2.0);
            canvas.text("no data", middle, 11.5, colors.faint, (HPos::Center, VPos::Center))?;
        }
    }
    Ok(())
}

fn times_of(panel: &Panel, look: &Look<'_>) -> Vec<axis::Mark> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few")]
    let marks_max = ((panel.right - panel.left) / MARK_WIDTH).max(2.0) as usize;
    axis::times((panel.from_ms, panel.to_ms), marks_max, look)
}

/// The words of the axis of time.
fn times<B: DrawingBackend>(
    canvas: &mut Canvas<'_, B>,
    panel: &Panel,
    look: &Look<'_>,
    colors: &Colors,
) -> Result<(), PlotError> {
    for mark in times_of(panel, look) {
        let x = panel.x(mark.at_ms);
        canvas.line(&[(x, panel.bottom), (x, panel.bottom + 5.0)], colors.edge, 1.0)?;
        canvas.text(&mark.label, (x, panel.bottom + 16.0), 12.0, colors.faint, (HPos::Center, VPos::Center))?;
        if let Some(below) = &mark.below {
            canvas.text(below, (x, panel.bottom + 33.0), 12.0, colors.word, (HPos::Center, VPos::Center))?;
        }
    }
    Ok(())
}

/// The name of a panel, its legend, and its series.
fn draw_panel<B: DrawingBackend>(
    canvas: &mut Canvas<'_, B>,
    panel: &Panel,
    (name, unit): (&str, &str),
    series: &[Series],
    recording: &Recording,
    colors: &Colors,
    show: &dyn Fn(f64) -> String,
) -> Result<(), PlotError> {
    let y = panel.top - 17.0;
    canvas.text(name, (panel.left, y), 14.5, colors.word, (HPos::Left, VPos::Center))?;
    let after = panel.left + canvas.width(name, 14.5)? + 10.0;
    canvas.text(unit, (after, y), 12.0, colors.faint, (HPos::Left, VPos::Center))?;
    let left_end = after + canvas.width(unit, 12.0)? + 20.0;
    // From the right, the first at last, so that their order is that of the series; what has no room is left out.
    let mut right = panel.right;
    for series in series.iter().rev() {
        let mut label = series.name.to_owned();
        if let (Some(mean), Some(max)) = (recording.mean(series.at), recording.max(series.at)) {
            label += &if series.name == "total" {
                format!("  {}", show(max))
            } else {
                format!("  mean {}, max {}", show(mean), show(max))
            };
        }
        let mut wide = canvas.width(&label, 12.0)?;
        if right - wide - 22.0 < left_end {
            label = series.name.to_owned();
            wide = canvas.width(&label, 12.0)?;
        }
        if right - wide - 22.0 < left_end {
            continue;
        }
        canvas.text(&label, (right - wide, y), 12.0, colors.faint, (HPos::Left, VPos::Center))?;
        canvas.rect((right - wide - 18.0, y - 1.5), (right - wide - 6.0, y + 1.5), series.color, 1.0)?;
        right -= wide + 38.0;
    }
    for series in series.iter().rev() {
        for piece in recording.pieces(series.at) {
            draw_piece(canvas, panel, series, &piece)?;
        }
    }
    Ok(())
}

fn draw_piece<B: DrawingBackend>(
    canvas: &mut Canvas<'_, B>,
    panel: &Panel,
    series: &Series,
    piece: &[Point],
) -> Result<(), PlotError> {
    let along = |value: fn(&Point) -> f64| -> Vec<(f64, f64)> {
        piece.iter().map(|point| (panel.x(point.at_ms), panel.y(value(point)))).collect()
    };
    let mean = along(|point| point.mean);
    let (Some(first), Some(last)) = (mean.first().copied(), mean.last().copied()) else { return Ok(()) };
    if piece.len() == 1 {
        return canvas.dot(first, 2.0, series.color);
    }
    if series.filled {
        let mut ground = mean.clone();
        ground.extend([(last.0, panel.bottom), (first.0, panel.bottom)]);
        canvas.area(&ground, series.color, 0.16)?;
        if piece.iter().any(|point| point.max > point.min) {
            let mut band = along(|point| point.max);
            band.extend(along(|point| point.min).into_iter().rev());
            canvas.area(&band, series.color, 0.22)?;
        }
    }
    canvas.line(&mean, series.color, if series.filled { 1.4 } else { 1.2 })
}
