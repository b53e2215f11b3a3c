//! Attachments out of and back into JSON placeholders.
