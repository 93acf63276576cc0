//! Boards: compacted logs of named values, their cursors, replicas and stores.
