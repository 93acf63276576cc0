//! Every promise of the requirement table, end to end.
