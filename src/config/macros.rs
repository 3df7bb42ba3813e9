//! `options!` and `choices!`: an option is declared once, next to the component that uses it, and parsing,
//! defaults, bounds, diagnostics, schema and reference all follow from the declaration.

use super::diagnostics::Diagnostics;
use super::field::Field;
use super::node::Node;
use super::path::Path;
use super::reader::Reader;

/// A declared table of options; written by `options!`.
pub trait Options: Sized + Clone {
    /// The name of the type.
    const NAME: &'static str;
    /// Its doc comment.
    const DOC: &'static str;

    /// The options in the order of their declaration.
    fn fields() -> Vec<Field>;

    /// Takes the options' keys from a table. `None` only after an error; all errors are reported, not only the
    /// first.
    fn read(reader: &mut Reader<'_>, diags: &mut Diagnostics) -> Option<Self>;
}

/// The options with every default, for use as the default of a nested table.
///
/// # Panics
/// If `T` has a required option, which is a mistake in its declaration.
pub fn defaults<T: Options>() -> T {
    let (node, mut diags) = (Node::empty(), Diagnostics::new());
    let read = Reader::new(&node, &Path::root(), "the defaults", &mut diags)
        .and_then(|mut reader| T::read(&mut reader, &mut diags));
    read.expect("a table that is used as a default has no required option")
}

/// Declares a table of options as a struct that implements [`Options`] and
/// [`FromNode`](super::FromNode).
///
/// A field without `= default` is required. `#[range(…)]` takes any range over the field's type (or over what
/// its `Option` holds) and `#[shape(…)]` overrides what the reference and the schema say of it; both come after
/// the doc comment, in this order.
macro_rules! options {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident {
            $(
                $(#[doc = $field_doc:literal])*
                $(#[range($range:expr)])?
                $(#[shape($shape:expr)])?
                pub $field:ident : $ty:ty $(= $default:expr)?
            ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone)]
        pub struct $name {
            $( $(#[doc = $field_doc])* pub $field: $ty, )*
        }

        impl $crate::config::Options for $name {
            const NAME: &'static str = stringify!($name);
            const DOC: &'static str = concat!($($doc, "\n",)*);

            fn fields() -> Vec<$crate::config::Field> {
                vec![$(
                    $crate::config::Field::new::<$ty>(
                        stringify!($field),
                        concat!($($field_doc, "\n",)*),
                        $crate::config::options!(@default $ty $(, $default)?).map(|default| default()),
                    )
                    $(.ranged::<$ty, _>(&($range)))?
                    $(.shaped($shape))?
                ),*]
            }

            #[allow(unused_variables, reason = "a struct may have no options at all")]
            fn read(
                reader: &mut $crate::config::Reader<'_>,
                diags: &mut $crate::config::Diagnostics,
            ) -> Option<Self> {
                $(
                    let $field: Option<$ty> = reader.field(
                        stringify!($field),
                        $crate::config::options!(@default $ty $(, $default)?),
                        diags,
                    );
                    $( let $field = reader.within(stringify!($field), $field, &($range), diags); )?
                )*
                Some($name { $($field: $field?),* })
            }
        }

        impl $crate::config::FromNode for $name {
            fn shape() -> $crate::config::Shape {
                $crate::config::Shape::Table($crate::config::TableShape {
                    name: <$name as $crate::config::Options>::NAME,
                    doc: <$name as $crate::config::Options>::DOC,
                    fields: <$name as $crate::config::Options>::fields,
                })
            }

            fn from_node(
                node: &$crate::config::Node,
                at: &$crate::config::Path,
                diags: &mut $crate::config::Diagnostics,
            ) -> Option<Self> {
                $crate::config::from_node::read_table(node, at, diags)
            }

            fn display(&self) -> String {
                $crate::config::from_node::inline_table(&[
                    $( (stringify!($field), $crate::config::FromNode::display(&self.$field)) ),*
                ])
            }
        }
    };
    (@default $ty:ty) => { None::<fn() -> $ty> };
    (@default $ty:ty, $default:expr) => { Some((|| $default) as fn() -> $ty) };
}

/// Declares an option with a fixed list of values as an enum that implements [`FromNode`](super::FromNode).
macro_rules! choices {
    (
        $(#[doc = $doc:literal])*
        pub enum $name:ident {
            $( $(#[doc = $choice_doc:literal])* $variant:ident = $text:literal ),+ $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Copy, Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $( $(#[doc = $choice_doc])* $variant, )+
        }

        impl $name {
            /// Every value, in the order of the declaration.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];
            /// Every value's text and meaning, in the same order.
            pub const CHOICES: &'static [$crate::config::Choice] = &[
                $( $crate::config::Choice { name: $text, doc: concat!($($choice_doc, "\n",)*) } ),+
            ];

            /// The value as it is written in the configuration.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $( $name::$variant => $text, )+
                }
            }
        }

        impl $crate::config::FromNode for $name {
            fn shape() -> $crate::config::Shape {
                $crate::config::Shape::Choice($name::CHOICES)
            }

            fn from_node(
                node: &$crate::config::Node,
                at: &$crate::config::Path,
                diags: &mut $crate::config::Diagnostics,
            ) -> Option<Self> {
                $crate::config::from_node::read_choice(node, $name::CHOICES, at, diags)
                    .map(|index| $name::ALL[index])
            }

            fn display(&self) -> String {
                format!("\"{}\"", self.as_str())
            }
        }
    };
}

pub(crate) use choices;
pub(crate) use options;
