//! The daemon around the layers below: its configuration, its socket, its logs and its signals.
