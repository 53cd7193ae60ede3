package import VitFormats
internal import VitPasses

extension CheckpointFile: CheckpointStore {}
