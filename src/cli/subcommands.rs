//! The commands below commands, declared as `args` declares the others: what `weir tls`, `weir buffer` and
//! `weir generate` make, look into and print.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What `weir tls` makes.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the help is the doc comment of each command and argument")]
pub enum Tls {
    /// Make an authority: ca.pem, which clients trust, and ca.key, which signs
    #[command(after_help = "\
Examples:
  weir tls ca
  weir tls ca --dir /etc/weir/tls --name 'Example logs'")]
    Ca {
        /// What the authority is called
        #[arg(long, value_name = "NAME", default_value = "weir CA")]
        name: String,
        /// Days until it expires
        #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = clap::value_parser!(u16).range(1..))]
        days: u16,
        #[command(flatten)]
        files: TlsFiles,
    },
    /// Make a server's certificate, signed by the authority: server.pem and server.key
    #[command(after_help = "\
Examples:
  weir tls server
  weir tls server --name logs.example.com --name 10.0.0.5
  weir tls server --force                a new one; a running weir takes it over by itself")]
    Server {
        /// Host name or address that clients connect to; may be repeated [default: localhost, 127.0.0.1, ::1 and this
        /// machine's name]
        #[arg(long, value_name = "NAME")]
        name: Vec<String>,
        /// Days until it expires
        #[arg(long, value_name = "DAYS", default_value_t = 825, value_parser = clap::value_parser!(u16).range(1..))]
        days: u16,
        #[command(flatten)]
        files: TlsFiles,
    },
    /// Make a client's certificate, signed by the authority: NAME.pem and NAME.key
    #[command(after_help = "\
Examples:
  weir tls client --name shipper-1
  weir tls client --name spiffe://example.com/ns/logs --dir /etc/weir/tls")]
    Client {
        /// Who the client is, as servers see it: a word, a host name, an e-mail address or a URI
        #[arg(long, value_name = "NAME")]
        name: String,
        /// Days until it expires
        #[arg(long, value_name = "DAYS", default_value_t = 825, value_parser = clap::value_parser!(u16).range(1..))]
        days: u16,
        #[command(flatten)]
        files: TlsFiles,
    },
}

/// Where `weir tls` writes.
#[derive(Debug, Args)]
pub struct TlsFiles {
    /// Directory of the files, the authority's among them
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Replace files that exist
    #[arg(long)]
    pub force: bool,
}

/// What can be done with disk buffers.
#[derive(Debug, Subcommand)]
pub enum BufferCommand {
    /// Show what waits in them, from the headers of their files
    #[command(after_help = "\
Examples:
  weir buffer inspect
  weir buffer inspect --json /var/lib/weir/buffers | jq .

Without DIR, the buffers of the configuration's state directory.")]
    Inspect {
        /// A buffer's directory, or one above several
        dir: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Read every record and check it against its checksum
    #[command(after_help = "\
Examples:
  weir buffer verify
  weir buffer verify /var/lib/weir/buffers/app/http_client-0

Exits with 0 if everything is sound, with 1 if something is damaged. A buffer in use may end in a record that is \
being written.")]
    Verify {
        /// A buffer's directory, or one above several
        dir: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write damaged files anew with the records that are sound, and keep the damaged ones next to them
    #[command(after_help = "\
Examples:
  weir buffer repair
  weir buffer repair /var/lib/weir/buffers/app/http_client-0

Refuses while a weir uses the buffer. Nothing is deleted: damaged files are renamed to *.damaged.")]
    Repair {
        /// A buffer's directory, or one above several
        dir: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// What can be generated.
#[derive(Debug, Subcommand)]
pub enum Generate {
    /// Completions for a shell
    #[command(after_help = "\
Examples:
  weir generate completions zsh > ~/.zfunc/_weir
  weir generate completions fish > ~/.config/fish/completions/weir.fish")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// The man pages, in roff: all commands on one page, or a page for each command
    #[command(after_help = "Examples:\n  weir generate man | man -l -\n  \
        weir generate man --dir /usr/local/share/man/man1")]
    Man {
        /// Write weir.1, weir-run.1 and so on into this directory
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// The JSON schema of the configuration, for editors
    #[command(after_help = "Examples:\n  weir generate schema > pipelines.schema.json")]
    Schema,
    /// The reference of all options, in Markdown
    #[command(after_help = "Examples:\n  weir generate reference > REFERENCE.md")]
    Reference,
}
