//! The hub: roster, sessions, shares, transports.
