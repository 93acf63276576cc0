//! The tiers: the same tests, small in `make test` and as large as promised in `make soak`.

use std::env;

/// How large a test is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Minutes for all tests together.
    Small,
    /// The sizes the project promises.
    Soak,
}

/// The tier of this run, from `LOCKSTEP_TEST_SIZE` (`small`, the default, or `soak`).
///
/// # Panics
/// On any other value.
pub fn size() -> Size {
    match env::var("LOCKSTEP_TEST_SIZE").as_deref() {
        Err(_) | Ok("" | "small") => Size::Small,
        Ok("soak") => Size::Soak,
        Ok(other) => panic!("LOCKSTEP_TEST_SIZE is small or soak, not {other}"),
    }
}

/// One of two values, by the tier.
pub fn pick<T>(small: T, soak: T) -> T {
    match size() {
        Size::Small => small,
        Size::Soak => soak,
    }
}
