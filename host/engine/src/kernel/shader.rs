//! The files of `shaders/` as kernels.

use burn::backend::wgpu::{KernelSource, SourceTemplate};
use burn::cubecl::prelude::KernelId;

/// A kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Shader {
    NormalizeU8,
    F16Pack,
    F16Unpack,
    Int8Range,
    Int8Pack,
    Int8Unpack,
    FfPower,
    FfStep,
    FfQuantise,
    FfWidths,
    FfScan,
    FfClear,
    FfPack,
    FfUnpack,
    FfDequantise,
    FfRestore,
}

/// The text of a file; for FF with what its kernels share in front.
macro_rules! wgsl {
    ($name:literal) => {
        include_str!(concat!("../../../../shaders/", $name, ".wgsl"))
    };
    (ff, $name:literal) => {
        concat!(wgsl!("ff"), "\n", wgsl!($name))
    };
}

impl Shader {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 16] = [
        Self::NormalizeU8,
        Self::F16Pack,
        Self::F16Unpack,
        Self::Int8Range,
        Self::Int8Pack,
        Self::Int8Unpack,
        Self::FfPower,
        Self::FfStep,
        Self::FfQuantise,
        Self::FfWidths,
        Self::FfScan,
        Self::FfClear,
        Self::FfPack,
        Self::FfUnpack,
        Self::FfDequantise,
        Self::FfRestore,
    ];

    /// What is compiled.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::NormalizeU8 => wgsl!("normalize_u8"),
            Self::F16Pack => wgsl!("f16_pack"),
            Self::F16Unpack => wgsl!("f16_unpack"),
            Self::Int8Range => wgsl!("int8_range"),
            Self::Int8Pack => wgsl!("int8_pack"),
            Self::Int8Unpack => wgsl!("int8_unpack"),
            Self::FfPower => wgsl!(ff, "ff_power"),
            Self::FfStep => wgsl!(ff, "ff_step"),
            Self::FfQuantise => wgsl!(ff, "ff_quantise"),
            Self::FfWidths => wgsl!(ff, "ff_widths"),
            Self::FfScan => wgsl!(ff, "ff_scan"),
            Self::FfClear => wgsl!(ff, "ff_clear"),
            Self::FfPack => wgsl!(ff, "ff_pack"),
            Self::FfUnpack => wgsl!(ff, "ff_unpack"),
            Self::FfDequantise => wgsl!(ff, "ff_dequantise"),
            Self::FfRestore => wgsl!(ff, "ff_restore"),
        }
    }
}

impl KernelSource for Shader {
    fn source(&self) -> SourceTemplate {
        SourceTemplate::new(self.text())
    }

    fn id(&self) -> KernelId {
        // The cache of pipelines sees nothing but this. It ends with the process, in which a name has one text.
        KernelId::new::<Self>().info(*self)
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

#[cfg(test)]
mod tests {
    use super::super::WORKGROUP;
    use super::*;

    #[test]
    fn every_shader_is_valid_wgsl() {
        for shader in Shader::ALL {
            let module = naga::front::wgsl::parse_str(shader.text())
                .unwrap_or_else(|e| panic!("{shader:?}: {}", e.emit_to_string(shader.text())));
            let flags = naga::valid::ValidationFlags::all();
            let info = naga::valid::Validator::new(flags, naga::valid::Capabilities::empty())
                .validate(&module)
                .unwrap_or_else(|e| panic!("{shader:?}: {e:?}"));
            let [entry] = &module.entry_points[..] else { panic!("{shader:?}: one entry point expected") };
            assert_eq!((entry.name.as_str(), entry.workgroup_size), ("main", [WORKGROUP as u32, 1, 1]), "{shader:?}");
            // The pipeline layout holds only what is used; a binding that is not would shift the others.
            for (handle, global) in module.global_variables.iter().filter(|(_, g)| g.binding.is_some()) {
                assert!(!info.get_entry_point(0)[handle].is_empty(), "{shader:?}: {:?} is unused", global.name);
            }
        }
    }

    #[test]
    fn every_shader_file_is_known() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shaders");
        let files = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path());
        let texts: Vec<_> = files
            .filter(|p| p.extension().is_some_and(|e| e == "wgsl"))
            .map(|p| std::fs::read_to_string(p).unwrap())
            .collect();
        // One more: what stands in front of those of FF.
        assert_eq!(texts.len(), Shader::ALL.len() + 1);
        assert!(texts.iter().all(|t| Shader::ALL.iter().any(|s| s.text().ends_with(t) || s.text().starts_with(t))));
    }
}
