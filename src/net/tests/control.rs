//! Control: heartbeats, drops, byes, deadlines, bounds on subscribers.
