//! Boards: which device sits where, and the loop that runs them.
