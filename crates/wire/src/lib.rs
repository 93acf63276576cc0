//! Messages, the native codec, and the login and session state machines, free of I/O.
