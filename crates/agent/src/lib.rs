//! The agent: joins a hub, keeps directories identical, reports vitals.
