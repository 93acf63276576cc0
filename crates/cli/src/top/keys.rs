//! What keys mean.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What the person wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Quit,
    Interrupt,
    Go(Go),
}

/// Where to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Go {
    /// So many tenths of what is on the screen, below 0 into the past.
    Tenths(i64),
    /// As far back as there is anything.
    First,
    /// To now, and on with it.
    Live,
    /// A shorter span of time on the screen.
    Closer,
    /// A longer one.
    Wider,
}

pub(super) fn wish(key: KeyEvent) -> Option<Wish> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('c') if control => Wish::Interrupt,
        KeyCode::Char('q') | KeyCode::Esc => Wish::Quit,
        KeyCode::Left | KeyCode::Char('h') => Wish::Go(Go::Tenths(-1)),
        KeyCode::Right | KeyCode::Char('l') => Wish::Go(Go::Tenths(1)),
        KeyCode::PageUp => Wish::Go(Go::Tenths(-10)),
        KeyCode::PageDown => Wish::Go(Go::Tenths(10)),
        KeyCode::Home => Wish::Go(Go::First),
        KeyCode::End => Wish::Go(Go::Live),
        KeyCode::Up | KeyCode::Char('+') => Wish::Go(Go::Closer),
        KeyCode::Down | KeyCode::Char('-') => Wish::Go(Go::Wider),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_quits_control_c_interrupts_and_a_released_key_is_nothing() {
        let key = |code, modifiers| KeyEvent::new(code, modifiers);
        assert_eq!(wish(key(KeyCode::Char('q'), KeyModifiers::NONE)), Some(Wish::Quit));
        assert_eq!(wish(key(KeyCode::Char('c'), KeyModifiers::CONTROL)), Some(Wish::Interrupt));
        assert_eq!(wish(key(KeyCode::Char('c'), KeyModifiers::NONE)), None);
        assert_eq!(wish(key(KeyCode::Left, KeyModifiers::NONE)), Some(Wish::Go(Go::Tenths(-1))));
        let released = KeyEvent { kind: KeyEventKind::Release, ..key(KeyCode::Char('q'), KeyModifiers::NONE) };
        assert_eq!(wish(released), None);
    }
}
