//! Reconciling one directory with another: plan, stage, switch; watch, settle.
