//! Presence: small states that live as long as the connection they came through.
