extension CodeGuide {
  /// How work went, and what the machine gives.
  static let running: [CodeGuide] = [
    CodeGuide(
      "back-off",
      "Training made the outputs worse on held-out samples: the weights of the best moment are taken "
        + "again, and the rate is lowered. It is a note."),
    CodeGuide(
      "batch-absent",
      "The model has no axis that counts images: samples run one at a time."),
    CodeGuide(
      "blas",
      "OpenBLAS, which computes matrix products, cannot be loaded. Install libopenblas0."),
    CodeGuide(
      "built-without",
      "This vitc was built without the library that the file needs. Install its -dev package and build "
        + "again; README names them."),
    CodeGuide(
      "checkpoint",
      "A checkpoint cannot be used: it is of another compile, or damaged. Without --resume the compile "
        + "begins anew."),
    CodeGuide(
      "checkpoint-unused",
      "An interrupted compile of these files left a checkpoint, and --resume is not given. It is written "
        + "over."),
    CodeGuide(
      "checkpoint-unwritten",
      "What was trained so far could not be kept; the compile goes on, and cannot be resumed from here. "
        + "Mostly the disk is full."),
    CodeGuide(
      "diverged",
      "Training of a layer or of the whole did not stay finite at any rate that was tried. A lower rate, "
        + "or other data, may help."),
    CodeGuide(
      "file-changed",
      "A file became shorter, or another, while it was read. Run the command again when nobody writes it."),
    CodeGuide(
      "internal",
      "vitc is wrong, or met something nobody thought of. Please report it with the file, if you can."),
    CodeGuide(
      "interrupted",
      "Somebody asked the work to stop: a signal, or a callback. What was trained is kept where a "
        + "checkpoint is; --resume goes on from it."),
    CodeGuide(
      "memory",
      "The memory that is allowed, or that the machine has, is not enough. --memory-limit, a smaller "
        + "--batch or fewer images help."),
    CodeGuide(
      "no-bf16",
      "The processor is not faster in bfloat16: what was asked to be computed in it is computed in f32, "
        + "with the same bytes of weights."),
    CodeGuide(
      "no-checkpoint",
      "--resume is given, and there is nothing to go on from."),
    CodeGuide(
      "no-control",
      "A control (none, pointwise, static) that was to be trained beside the mixers does not fit this "
        + "model."),
    CodeGuide(
      "non-finite",
      "A computation gave numbers that are none (NaN or infinity). Look at weights and data; the message "
        + "names where."),
    CodeGuide(
      "non-finite-hybrid",
      "The compiled model gives no numbers on any held-out sample, and is not written."),
    CodeGuide(
      "non-finite-samples",
      "The teacher gives no numbers for some samples, which are left out; or for all, which is an error."),
    CodeGuide(
      "non-finite-weight",
      "A weight of the model is NaN or infinite. Such a model can be inspected and run; it cannot be "
        + "distilled."),
    CodeGuide(
      "not-writable",
      "A folder or file cannot be made at that place."),
    CodeGuide(
      "nothing-replaced",
      "A pass works on layers that were replaced, and none was. Run 'swap' before."),
    CodeGuide(
      "out-of-memory",
      "The system gives no memory for compressing or decompressing."),
    CodeGuide(
      "progress",
      "A line about how far the work is."),
    CodeGuide(
      "rounded-batch",
      "The model's batch is fixed, so that a step takes a multiple of it."),
    CodeGuide(
      "unwritable-file",
      "A file cannot be written: the disk is full, the folder is missing or its rights say no. What stood "
        + "there before is untouched."),
    CodeGuide(
      "unwritable-output",
      "Standard output cannot take the result: its reader is gone, or a disk is full."),
  ]
}
