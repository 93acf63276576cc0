//! Scenes, processes and independent checkers for the end-to-end tests.
