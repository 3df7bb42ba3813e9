//! What queries mean, case by case; that they are carried out as a plain reading of their rules says; and what their
//! errors say.

mod errors;
mod meaning;
mod oracle;
mod page;
