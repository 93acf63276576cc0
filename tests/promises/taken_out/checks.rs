//! What is looked at before something hostile is let through, and the tests that see it when nobody looks.

use super::Test;

/// A check, as it stands in its file, and what stands there once it is taken out.
pub(crate) struct Check {
    pub(crate) what: &'static str,
    pub(crate) file: &'static str,
    pub(crate) stands: &'static str,
    pub(crate) instead: &'static str,
    pub(crate) tests: &'static [Test],
}

const fn unit(of: &'static str, name: &'static str) -> Test {
    Test { of: Some(of), name }
}

const fn promise(name: &'static str) -> Test {
    Test { of: None, name }
}

pub(crate) const CHECKS: &[Check] = &[
    Check {
        what: "how much one client waits for at once",
        file: "crates/hub/src/answers.rs",
        stands: "let _place = role.session().map(|session| session.to_wait()).transpose()?;",
        instead: "let _place = role.session().map(|session| session.to_wait()).transpose();",
        tests: &[promise("many_that_wait_hold_no_copies_of_the_roster_and_keep_nobody_waiting")],
    },
    Check {
        what: "how many tokens a client makes",
        file: "crates/hub/src/answers.rs",
        stands: "if let (Some(id), false) = (client, role.is_local())",
        instead: "if let (Some(id), true) = (client, role.is_local())",
        tests: &[promise("no_client_pushes_out_of_the_log_what_others_did")],
    },
    Check {
        what: "how many lines of the log one client has that comes in",
        file: "crates/hub/src/audit.rs",
        stands: "if own.lines >= LINES_OF_ONE_MAX {",
        instead: "if false {",
        tests: &[unit(
            "hub",
            "a_client_that_comes_in_from_everywhere_takes_so_many_lines_and_pushes_out_nobody_elses",
        )],
    },
    Check {
        what: "whether the invite of a service's start would be kept in its journal",
        file: "crates/hub/src/lib.rs",
        stands: "Enrol::Invite if !may_invite => return None,",
        instead: "Enrol::Invite if may_invite && !may_invite => return None,",
        tests: &[promise("a_hub_that_is_a_service_makes_no_invite_at_its_start_and_says_what_does")],
    },
    Check {
        what: "the length that a frame announces",
        file: "crates/wire/src/codec.rs",
        stands: "        if bytes > max {\n            return Err(FrameError::TooLarge { bytes, max });",
        instead: "        if false {\n            return Err(FrameError::TooLarge { bytes, max });",
        tests: &[
            unit("wire", "a_length_is_looked_at_before_memory_is_spent"),
            promise("garbage_half_frames_and_endless_lengths_inside_tls_are_cut"),
        ],
    },
    Check {
        what: "bytes behind a message",
        file: "crates/wire/src/codec.rs",
        stands: "        return Err(DecodeError::Trailing { bytes: rest.len() });\n    }\n    message.check()?;",
        instead: "    }\n    message.check()?;",
        tests: &[unit("wire", "every_cut_and_every_longer_frame_is_refused")],
    },
    Check {
        what: "the limits of what a message says",
        file: "crates/wire/src/codec.rs",
        stands: "    message.check()?;\n    Ok(message)",
        instead: "    Ok(message)",
        tests: &[unit("wire", "every_limit_allows_what_it_says_and_nothing_past_it")],
    },
    Check {
        what: "control characters in what people see",
        file: "crates/wire/src/check.rs",
        stands: "require(!text.chars().any(char::is_control), field, Wrong::Control)",
        instead: "require(true, field, Wrong::Control)",
        tests: &[unit("wire", "texts_that_people_see_have_no_control_characters")],
    },
    Check {
        what: "a secret where something is told for debugging",
        file: "crates/wire/src/secret.rs",
        stands: "f.write_str(\"Secret(..)\")",
        instead: "f.write_str(self.reveal())",
        tests: &[unit("wire", "no_secret_shows_in_any_message")],
    },
    Check {
        what: "the hold after wrong answers",
        file: "crates/wire/src/login.rs",
        stands: "let hold = desk.limiter.hold(&self.address, claim.id, now.clock);",
        instead: "let hold = Duration::ZERO;",
        tests: &[promise("guessing_is_slowed_down_and_locks_nobody_out")],
    },
    Check {
        what: "that what was issued is confirmed, and nothing else",
        file: "crates/wire/src/login.rs",
        stands: "(State::Issued { claim, hash }, ToHub::Confirm) => self.on_confirm(&claim, &hash, desk, now),",
        instead: "(State::Issued { claim, hash }, ToHub::Confirm) => self.on_confirm(&claim, &hash, desk, now),
            (State::AskedUniqueId(claim), ToHub::Confirm) => {
                let Some(Known::Confirmed { hash, .. }) = desk.roster.lookup(claim.id) else { return self.not_invited(\"\") };
                self.on_confirm(&claim, &hash, desk, now)
            }",
        tests: &[promise("m3_4_no_order_of_messages_gets_in_without_proof")],
    },
    Check {
        what: "the time a login may take",
        file: "crates/wire/src/login.rs",
        stands: "state if now.clock >= self.until_of(&state) => {",
        instead: "state if false && now.clock >= self.until_of(&state) => {",
        tests: &[promise("a_login_that_takes_too_long_is_told_and_cut")],
    },
    Check {
        what: "how often and how long an invite lets in",
        file: "crates/wire/src/roster.rs",
        stands: "self.uses_left > 0 && now_ms < self.expires_at_ms",
        instead: "self.uses_left < u32::MAX || now_ms < self.expires_at_ms",
        tests: &[promise("an_invite_lets_in_as_many_as_it_says_for_as_long_as_it_says")],
    },
    Check {
        what: "who administers",
        file: "crates/hub/src/access.rs",
        stands: "        if self.administers {\n            return Ok(());",
        instead: "        if true {\n            return Ok(());",
        tests: &[promise("only_the_hubs_own_machine_invites_revokes_and_reissues")],
    },
    Check {
        what: "that a change is finished without who asked for it",
        file: "crates/hub/src/answers.rs",
        stands: "let done = hub.begun.work(async move { answer(&to_answer, &role, question).await }).await;",
        instead: "let done = Ok::<_, tokio::task::JoinError>(answer(&to_answer, &role, question).await);",
        tests: &[unit("hub", "a_change_whose_asker_hangs_up_is_told_to_whom_it_concerns_and_put_on_record")],
    },
    Check {
        what: "that a login is put on record without who logs in",
        file: "crates/hub/src/reception.rs",
        stands: "hub.begun.work(work).await.unwrap_or_else(|error| Err(RosterError::Storage(error.to_string())))",
        instead: "work.await",
        tests: &[unit("hub", "a_login_that_hangs_up_while_the_disk_is_waited_for_is_on_record")],
    },
    Check {
        what: "whether it still is let in once its request is there",
        file: "crates/hub/src/http/auth.rs",
        stands: "        if self.time_left(hub).is_none() {\n            return Err(",
        instead: "        if false {\n            return Err(",
        tests: &[promise("what_is_revoked_or_allowed_less_while_its_body_comes_does_nothing_with_it")],
    },
    Check {
        what: "how many connections one has who signed in",
        file: "crates/hub/src/http/signed.rs",
        stands: "if *of_it >= CONNECTIONS_OF_ONE_MAX {",
        instead: "if false {",
        tests: &[
            unit("hub", "each_who_signs_in_has_so_many_connections_and_takes_none_from_others"),
            unit("hub", "a_session_has_no_more_connections_than_its_client_may_sign_in_on"),
            promise("who_has_signed_in_takes_so_many_connections_and_leaves_the_rest_to_others"),
        ],
    },
    Check {
        what: "how many wait to log in",
        file: "crates/hub/src/strangers.rs",
        stands: "        if most.is_some() {",
        instead: "        if false {",
        tests: &[
            unit("hub", "who_waits_longest_at_the_busiest_address_makes_room"),
            unit("hub", "one_address_has_so_many_places_and_a_further_one_costs_another_nothing"),
        ],
    },
    Check {
        what: "how many Socket.IO sessions wait to log in",
        file: "crates/hub/src/socketio/track.rs",
        stands: "if strangers.all >= STRANGERS_MAX || full {",
        instead: "if false && full {",
        tests: &[unit("hub", "strangers_of_one_network_are_bounded_until_they_log_in_or_leave")],
    },
    Check {
        what: "how large a message of Socket.IO is",
        file: "crates/hub/src/socketio/engine.rs",
        stands: "limit of its own for each.\n            .max_payload(bytes_max as u64)",
        instead: "limit of its own for each.\n            .max_payload(u64::MAX)",
        tests: &[promise("what_is_too_large_is_refused_over_each_transport")],
    },
    Check {
        what: "how many attachments a packet announces",
        file: "crates/hub/src/socketio/engine.rs",
        stands: ".max_incoming_binaries(ATTACHMENTS_MAX)",
        instead: ".max_incoming_binaries(usize::MAX)",
        tests: &[promise("what_is_no_websocket_ends_that_connection_alone_logged_in_or_not")],
    },
    Check {
        what: "how much of a client waits to be answered",
        file: "crates/hub/src/socketio/inbox.rs",
        stands: "            state.held = true;\n            self.track.hold(true);",
        instead: "            state.held = true;",
        tests: &[promise("who_sends_faster_than_it_is_worked_off_is_slowed_down_and_loses_nothing")],
    },
    Check {
        what: "by which name a hub on loopback was called",
        file: "crates/hub/src/http/guard.rs",
        stands: "Some(hosts) if !hosts.contains(&name_of(host)) => {",
        instead: "Some(hosts) if false && !hosts.contains(&name_of(host)) => {",
        tests: &[
            unit("hub", "a_hub_on_loopback_answers_to_names_of_this_machine_only"),
            promise("only_health_and_the_page_are_open_and_every_answer_is_guarded"),
        ],
    },
    Check {
        what: "from which origin a page connects",
        file: "crates/hub/src/http/guard.rs",
        stands: "        if self.cors.has(origin) {\n            return Ok(());",
        instead: "        if true || self.cors.has(origin) {\n            return Ok(());",
        tests: &[promise("a_page_of_another_origin_does_not_connect")],
    },
    Check {
        what: "how long a body says that it is",
        file: "crates/hub/src/http/body.rs",
        stands: "if usize::try_from(body.size_hint().lower()).map_or(true, |told| told > bytes_max) {",
        instead: "if usize::try_from(body.size_hint().lower()).map_or(true, |_| false) {",
        tests: &[promise("what_is_too_much_is_refused_before_it_is_read")],
    },
    Check {
        what: "how long a body is",
        file: "crates/hub/src/http/body.rs",
        stands: "if all.len() + data.len() > bytes_max {",
        instead: "if all.len() + data.len() > usize::MAX - 1 {",
        tests: &[promise("what_is_too_much_is_refused_before_it_is_read")],
    },
    Check {
        what: "the SHA-256 of the script that installs",
        file: "crates/hub/src/handout.rs",
        stands: "in {script_sha256}*) exec",
        instead: "in {script_sha256}*|*) exec",
        tests: &[promise("what_is_not_what_the_hub_printed_never_runs_and_leaves_nothing")],
    },
    Check {
        what: "how many take the program at once",
        file: "crates/hub/src/handout.rs",
        stands: "if takers.values().sum::<usize>() >= TAKERS_MAX || of_it >= TAKERS_MAX_PER_ADDRESS {",
        instead: "if takers.len() == usize::MAX && of_it >= TAKERS_MAX_PER_ADDRESS {",
        tests: &[
            unit("hub", "one_address_has_some_of_the_places_and_each_is_given_back"),
            promise("many_who_fetch_it_and_some_who_take_nothing_keep_nobody_waiting"),
        ],
    },
    Check {
        what: "how long a line of text is",
        file: "crates/hub/src/text/lines.rs",
        stands: "if self.line.len() >= line_bytes_max {",
        instead: "if self.line.len() == usize::MAX {",
        tests: &[promise("a_line_that_is_too_long_is_told_and_the_next_one_is_heard")],
    },
    Check {
        what: "the hub's key",
        file: "crates/agent/src/dial.rs",
        stands: "Some(expected) if expected != shown => Err(",
        instead: "Some(expected) if false && expected != shown => Err(",
        tests: &[promise("a_hub_with_another_key_than_the_links_is_told_nothing")],
    },
    Check {
        what: "that a content is what its hash and size say",
        file: "crates/agent/src/fetch.rs",
        stands: "if bytes.len() as u64 != *size_bytes || ContentId::of(&bytes) != content {",
        instead: "if bytes.len() as u64 == u64::MAX && *size_bytes == 0 {",
        tests: &[unit("agent", "a_size_that_lies_is_a_problem_of_that_file_alone")],
    },
    Check {
        what: "the way up in a path",
        file: "crates/tree/src/path.rs",
        stands: "b\".\" | b\"..\" => Err(PathError::Dots),",
        instead: "b\".\" => Err(PathError::Dots),",
        tests: &[unit("agent", "names_that_are_no_paths_touch_nothing_and_hold_up_nobody")],
    },
    Check {
        what: "that a directory is no link",
        file: "crates/tree/src/at/dir.rs",
        stands: "OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW)",
        instead: "OFlags::RDONLY.union(OFlags::DIRECTORY)",
        tests: &[unit("agent", "a_directory_that_somebody_swaps_for_a_link_is_not_written_through")],
    },
    Check {
        what: "set-id bits in an entry's mode",
        file: "crates/tree/src/entry.rs",
        stands: "if mode & !MODE_MASK != 0 { Err(EntryError::Unknown) } else { Ok(mode) }",
        instead: "Ok(mode)",
        tests: &[unit("agent", "entries_that_could_not_stand_on_a_disk_are_refused")],
    },
    Check {
        what: "a batch that contradicts its mark",
        file: "crates/board/src/replica.rs",
        stands: "if sound { Ok(()) } else { Err(ReplicaError::Contradictory) }",
        instead: "if sound || true { Ok(()) } else { Err(ReplicaError::Contradictory) }",
        tests: &[unit("agent", "a_batch_that_contradicts_its_own_mark_changes_nothing")],
    },
    Check {
        what: "slashes and dots in a value's name as its file's",
        file: "crates/agent/src/holding/names.rs",
        stands: "b'/' | b'%' | 0..=31 | 127 => {}",
        instead: "b'%' | 0..=31 | 127 => {}",
        tests: &[promise("m2_5_no_name_of_a_value_leads_out_of_the_directory_nor_onto_another_values_file")],
    },
];
