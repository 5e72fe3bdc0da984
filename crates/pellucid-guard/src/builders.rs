//! Builders of settings, all of one form.

/// Gives a settings struct, which is `#[non_exhaustive]`, a method that sets each field. After `:` a field's type is taken as it
/// is, which suits numbers; after `=>` what becomes that type is taken too.
///
/// ```
/// #[derive(Default)]
/// pub struct Settings { seed: u64, name: Option<String> }
/// pellucid_guard::builders!(Settings { with_seed: seed: u64, with_name: name => Option<String> });
/// let settings = Settings::default().with_seed(3).with_name("run".to_owned());
/// assert_eq!((settings.seed, settings.name.as_deref()), (3, Some("run")));
/// ```
#[macro_export]
macro_rules! builders {
    ($settings:ident { $($with:ident: $field:ident $how:tt $kind:ty),+ $(,)? }) => {
        impl $settings {
            $($crate::builders!(@one $settings $with $field $how $kind);)+
        }
    };
    (@one $settings:ident $with:ident $field:ident : $kind:ty) => {
        #[doc = concat!("The same with another [`", stringify!($settings), "::", stringify!($field), "`].")]
        #[must_use]
        pub fn $with(mut self, $field: $kind) -> Self {
            self.$field = $field;
            self
        }
    };
    (@one $settings:ident $with:ident $field:ident => $kind:ty) => {
        #[doc = concat!("The same with another [`", stringify!($settings), "::", stringify!($field), "`].")]
        #[must_use]
        pub fn $with(mut self, $field: impl Into<$kind>) -> Self {
            self.$field = $field.into();
            self
        }
    };
}
