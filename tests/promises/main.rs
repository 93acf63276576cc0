//! Every promise of the requirement table, end to end, against the built program.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod abuse;
mod command_line;
mod deleting;
mod demo;
mod dirsync;
mod docs;
mod enrolment;
mod following;
mod fresh_clone;
mod history;
mod http;
mod http_api;
mod http_tls;
mod javascript_client;
mod login;
mod machines;
mod mirror;
mod mirror_choose;
mod mirror_faults;
mod mirror_keep;
mod mirror_live;
mod mirror_modes;
mod mirror_service;
mod mirror_traps;
mod monitor;
mod plot;
mod presence;
mod python_client;
mod readers;
mod realinput;
mod scenario;
mod sessions;
mod shares;
mod socketio;
mod speaker;
mod tables;
mod text;
mod tokens;
mod top;
mod values;
mod values_as_files;
mod web;
