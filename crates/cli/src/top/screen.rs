//! Draws the screen. What has no room is left out; no size is too small.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Borders, Chart, Dataset, GraphType, Paragraph};
use vitals::plot::Recording;
use vitals::process::TOP;
use vitals::text::shown;

use super::state::{Detail, State};

/// With colours, or without for a person who asked for none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    colorless: bool,
}

impl Paint {
    pub(super) fn new(colorless: bool) -> Self {
        Self { colorless }
    }

    fn of(self, color: Color) -> Style {
        if self.colorless { Style::new() } else { Style::new().fg(color) }
    }

    fn faint(self) -> Style {
        if self.colorless { Style::new() } else { Style::new().add_modifier(Modifier::DIM) }
    }

    /// How far up a share is, as a traffic light.
    fn load(self, pct: f64) -> Style {
        self.of(match pct {
            pct if pct >= 90.0 => Color::Red,
            pct if pct >= 70.0 => Color::Yellow,
            _ => Color::Green,
        })
    }
}

/// Places in [`vitals::plot::KEYS`].
const BUSY: usize = 0;
const USED: usize = 4;

/// Both charts begin at the same column: `1023.9 MiB`.
const TICK_WIDTH: usize = 10;

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, paint: Paint) {
    let area = frame.area();
    let detail = state.detail();
    let below = if area.height >= 24 { 2 + u16::try_from(TOP).unwrap_or(0) + 1 } else { 0 };
    let [head, cpu, memory, lists, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Length(below),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_head(frame, head, state, &detail, paint);
    let recording = state.recording();
    let total = detail.number("mem_total_bytes").or_else(|| recording.max(6));
    draw_chart(
        frame,
        cpu,
        &recording,
        state,
        &Graph {
            at: BUSY,
            max: 100.0,
            title: cpu_title(&detail, paint),
            color: Color::Cyan,
            ticks: ["0%", "50%", "100%"].map(str::to_owned),
        },
        paint,
    );
    let max = total.or_else(|| recording.max(USED)).unwrap_or(0.0).max(1.0);
    let ticks = [0.0, max / 2.0, max].map(|bytes| shown("bytes", bytes));
    draw_chart(
        frame,
        memory,
        &recording,
        state,
        &Graph { at: USED, max, title: memory_title(&detail, paint), color: Color::Magenta, ticks },
        paint,
    );
    if below > 0 {
        let [cores, by_cpu, by_memory] =
            Layout::horizontal([Constraint::Fill(2), Constraint::Fill(3), Constraint::Fill(3)]).areas(lists);
        draw_cores(frame, cores, &detail, paint);
        draw_processes(frame, by_cpu, &detail, ("cpu", "pct", "percent"), paint);
        draw_processes(frame, by_memory, &detail, ("mem", "rss_bytes", "bytes"), paint);
    }
    let keys = " q quit   ← → wind back and on   PgUp PgDn a screen   Home End first, live   ↑ ↓ closer, wider";
    let words = match state.complaint() {
        Some(complaint) => Line::styled(format!(" {complaint}"), paint.of(Color::Red)),
        None => Line::styled(keys, paint.faint()),
    };
    frame.render_widget(Paragraph::new(words), foot);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, state: &State, detail: &Detail, paint: Paint) {
    let (_, end_ms) = state.window();
    let mut spans = vec![Span::from(" lockstep top ").bold()];
    if state.is_live() {
        spans.push(Span::styled("● live", paint.of(Color::Green)));
    } else {
        spans.push(Span::styled("◀ wound back", paint.of(Color::Yellow).add_modifier(Modifier::REVERSED)));
    }
    spans.push(Span::from(format!("  {}", local(end_ms, "%Y-%m-%d %H:%M:%S"))));
    spans.push(Span::styled(format!("  {} on the screen", span_words(state.span_ms())), paint.faint()));
    if detail.wall_ms.is_none() {
        spans.push(Span::styled("  nothing is known of this time", paint.of(Color::Yellow)));
    }
    if let Some(seconds) = detail.number("uptime_seconds") {
        let minutes = seconds / 60.0;
        let (days, hours) = ((minutes / 1440.0).floor(), (minutes / 60.0 % 24.0).floor());
        spans
            .push(Span::styled(format!("  up {days:.0}d {hours:.0}h {:.0}m", (minutes % 60.0).floor()), paint.faint()));
    }
    frame.render_widget(Paragraph::new(Line::from(spans)), area);
}

fn cpu_title(detail: &Detail, paint: Paint) -> Line<'static> {
    let share = |key: &str| detail.number(key).map_or_else(|| "-".into(), |pct| shown("percent", pct));
    let mut spans = vec![Span::from(" CPU ").bold(), Span::styled(share("cpu_busy_pct"), paint.of(Color::Cyan))];
    let parts = [
        ("user", "cpu_user_pct"),
        ("system", "cpu_system_pct"),
        ("iowait", "cpu_iowait_pct"),
        ("steal", "cpu_steal_pct"),
    ];
    for (name, key) in parts {
        spans.push(Span::styled(format!("  {name} {}", share(key)), paint.faint()));
    }
    let loads = ["load_1m", "load_5m", "load_15m"].map(|key| detail.number(key));
    if let [Some(one), Some(five), Some(fifteen)] = loads {
        spans.push(Span::styled(format!("  load {one:.2} {five:.2} {fifteen:.2}"), paint.faint()));
    }
    spans.push(Span::from(" "));
    Line::from(spans)
}

fn memory_title(detail: &Detail, paint: Paint) -> Line<'static> {
    let bytes = |key: &str| detail.number(key).map_or_else(|| "-".into(), |bytes| shown("bytes", bytes));
    let mut spans =
        vec![Span::from(" Memory ").bold(), Span::styled(bytes("mem_used_bytes"), paint.of(Color::Magenta))];
    spans.push(Span::from(format!(" of {}", bytes("mem_total_bytes"))));
    for (name, key) in
        [("available", "mem_available_bytes"), ("cached", "mem_cached_bytes"), ("swap used", "swap_used_bytes")]
    {
        spans.push(Span::styled(format!("  {name} {}", bytes(key)), paint.faint()));
    }
    spans.push(Span::from(" "));
    Line::from(spans)
}

/// One chart.
struct Graph {
    at: usize,
    max: f64,
    title: Line<'static>,
    color: Color,
    ticks: [String; 3],
}

/// A series over the window, a line for each piece, so that a gap stays one.
fn draw_chart(frame: &mut Frame<'_>, area: Rect, recording: &Recording, state: &State, graph: &Graph, paint: Paint) {
    let (from_ms, to_ms) = state.window();
    let seconds = |at_ms: i64| (at_ms.saturating_sub(to_ms)) as f64 / 1000.0;
    let pieces: Vec<Vec<(f64, f64)>> = recording
        .pieces(graph.at)
        .iter()
        .map(|piece| piece.iter().map(|point| (seconds(point.at_ms), point.mean)).collect())
        .collect();
    let set = |piece| {
        let style = paint.of(graph.color);
        Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line).style(style).data(piece)
    };
    let format = if state.span_ms() >= 86_400_000 { "%m-%d %H:%M" } else { "%H:%M:%S" };
    let middle_ms = from_ms + (to_ms - from_ms) / 2;
    let times = [from_ms, middle_ms, to_ms].map(|at_ms| Line::styled(local(at_ms, format), paint.faint()));
    let block = Block::new().borders(Borders::TOP).border_style(paint.faint()).title(graph.title.clone());
    let across = Axis::default().bounds([seconds(from_ms), 0.0]).labels(times).style(paint.faint());
    let ticks = graph.ticks.iter().map(|tick| Line::styled(format!("{tick:>TICK_WIDTH$}"), paint.faint()));
    let up = Axis::default().bounds([0.0, graph.max]).labels(ticks).style(paint.faint());
    let chart = Chart::new(pieces.iter().map(|piece| set(piece)).collect()).block(block).x_axis(across).y_axis(up);
    frame.render_widget(chart.legend_position(None), area);
}

fn draw_cores(frame: &mut Frame<'_>, area: Rect, detail: &Detail, paint: Paint) {
    let core = |(key, pct): (&String, &f64)| {
        let id: u32 = key.strip_prefix("cpu")?.strip_suffix("_busy_pct")?.parse().ok()?;
        Some((id, *pct))
    };
    let mut cores: Vec<(u32, f64)> = detail.numbers.iter().filter_map(core).collect();
    cores.sort_by_key(|(id, _)| *id);
    let title = format!(" Cores {} ", cores.len());
    let block = titled(title, paint);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let rows = usize::from(inner.height).max(1);
    let columns = cores.len().div_ceil(rows).max(1);
    // What is too narrow to be read is left out: the first cores stand for the others.
    let columns = columns.min((usize::from(inner.width) / 12).max(1));
    let lines = (0..rows).map(|row| {
        let mut spans = Vec::new();
        for (id, pct) in (0..columns).filter_map(|column| cores.get(column * rows + row)) {
            let wide = (usize::from(inner.width) / columns).saturating_sub(11).min(30);
            let filled = (0..wide).filter(|cell| (*cell as f64 + 0.5) / (wide as f64) < pct / 100.0).count();
            spans.push(Span::styled(format!("{id:>3} "), paint.faint()));
            spans.push(Span::styled("█".repeat(filled), paint.load(*pct)));
            spans.push(Span::styled("·".repeat(wide - filled), paint.faint()));
            spans.push(Span::from(format!(" {pct:>4.0}% ")));
        }
        Line::from(spans)
    });
    let lines: Vec<Line<'_>> = if cores.is_empty() { vec![unknown(detail, paint)] } else { lines.collect() };
    frame.render_widget(Paragraph::new(lines), inner);
}

fn draw_processes(
    frame: &mut Frame<'_>,
    area: Rect,
    detail: &Detail,
    (by, what, unit): (&str, &str, &str),
    paint: Paint,
) {
    let title = if by == "cpu" { " Processes by CPU " } else { " Processes by memory " };
    let block = titled(title.into(), paint);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let row = |rank: usize| {
        let key = |part: &str| format!("top_{by}{rank}_{part}");
        let name = detail.names.get(&key("name"))?;
        let (pid, value) = (detail.number(&key("pid"))?, detail.number(&key(what)));
        let value = value.map_or_else(|| "-".into(), |value| shown(unit, value));
        let spans =
            [Span::styled(format!("{pid:>8} "), paint.faint()), format!("{value:>10}  ").into(), name.clone().into()];
        Some(Line::from(spans.to_vec()))
    };
    let mut lines: Vec<Line<'_>> = (1..=TOP).filter_map(row).collect();
    if lines.is_empty() {
        lines.push(unknown(detail, paint));
    }
    frame.render_widget(Paragraph::new(lines), inner);
}

fn unknown(detail: &Detail, paint: Paint) -> Line<'static> {
    let words = if detail.wall_ms.is_some() { " not measured yet, or not kept" } else { " nothing is known" };
    Line::styled(words, paint.faint())
}

fn titled(title: String, paint: Paint) -> Block<'static> {
    Block::new().borders(Borders::TOP).border_style(paint.faint()).title(Span::from(title).bold())
}

/// A moment on the clocks of this machine.
fn local(wall_ms: i64, format: &str) -> String {
    Timestamp::from_millisecond(wall_ms)
        .map_or_else(|_| "-".into(), |at| at.to_zoned(TimeZone::system()).strftime(format).to_string())
}

fn span_words(ms: i64) -> String {
    let minutes = ms / 60_000;
    match minutes {
        1440.. => format!("{} d", minutes / 1440),
        60.. => format!("{} h", minutes / 60),
        _ => format!("{minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use vitals::process::Scanner;
    use vitals::{Instants, MetricSet, Probe};

    use super::super::keys::Go;
    use super::*;

    fn measured() -> State {
        let mut state = State::new(None);
        let mut probe = Probe::new(Path::new("/proc"), MetricSet::all());
        let mut scanner = Scanner::new(Path::new("/proc"));
        for second in 0..40 {
            probe.scans().put(scanner.scan(Instants::now()).unwrap());
            let taken = Instants::now();
            let mut frame = probe.take(taken).unwrap().clone();
            frame.taken.wall_ns += second * 1_000_000_000;
            state.take(&frame);
        }
        state
    }

    fn screen(state: &State, (width, height): (u16, u16), paint: Paint) -> Terminal<TestBackend> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state, paint)).unwrap();
        terminal
    }

    fn text(terminal: &Terminal<TestBackend>) -> String {
        terminal.backend().buffer().content().iter().map(|cell| cell.symbol()).collect()
    }

    #[test]
    fn a_screen_shows_cpu_memory_cores_processes_and_the_keys() {
        let shown = text(&screen(&measured(), (140, 40), Paint::new(false)));
        let words = [
            "● live",
            " CPU ",
            " Memory ",
            " Cores ",
            "Processes by CPU",
            "Processes by memory",
            "100%",
            "q quit",
            "GiB",
        ];
        for word in words {
            assert!(shown.contains(word), "{word}\n{shown}");
        }
        assert!(shown.chars().any(|char| ('\u{2801}'..='\u{28ff}').contains(&char)), "a line is drawn");
    }

    #[test]
    fn no_size_is_too_small_and_nothing_measured_is_a_screen_too() {
        let (measured, nothing) = (measured(), State::new(None));
        for width in (0..40).chain([80, 300]) {
            for height in (0..30).chain([100]) {
                screen(&measured, (width, height), Paint::new(false));
                screen(&nothing, (width, height), Paint::new(true));
            }
        }
    }

    #[test]
    fn without_colours_no_cell_has_one() {
        let terminal = screen(&measured(), (120, 40), Paint::new(true));
        let plain = |cell: &ratatui::buffer::Cell| cell.fg == Color::Reset && cell.bg == Color::Reset;
        assert!(terminal.backend().buffer().content().iter().all(plain));
        let colored = screen(&measured(), (120, 40), Paint::new(false));
        assert!(!colored.backend().buffer().content().iter().all(plain));
    }

    #[test]
    fn wound_back_says_so_and_what_is_not_known_is_no_number() {
        let mut state = measured();
        state.go(Go::Closer);
        state.go(Go::Tenths(-1));
        let shown = text(&screen(&state, (140, 40), Paint::new(false)));
        assert!(shown.contains("wound back") && shown.contains("not kept"), "{shown}");
    }
}
