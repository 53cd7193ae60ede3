extension CodeGuide {
  /// What images and labels are read from.
  static let data: [CodeGuide] = [
    CodeGuide(
      "cifar",
      "A folder holds batches of both kinds of CIFAR, or none that fit together."),
    CodeGuide(
      "cifar-data",
      "A batch of CIFAR does not hold images as its format says."),
    CodeGuide(
      "cifar-keys",
      "A batch of CIFAR lacks an entry, or names of classes are missing."),
    CodeGuide(
      "cifar-label",
      "A label of CIFAR is none of its classes."),
    CodeGuide(
      "cifar-size",
      "The file has no whole number of CIFAR's records."),
    CodeGuide(
      "data-empty",
      "A pass needs samples, and there are none left."),
    CodeGuide(
      "data-missing",
      "The command needs --data: what it finds out is found out on images."),
    CodeGuide(
      "data-unlabelled",
      "Labels are needed, and the data have none."),
    CodeGuide(
      "empty-data",
      "The data set has no sample that can be read."),
    CodeGuide(
      "golden-schema",
      "The file is no golden, or one of a newer vitc."),
    CodeGuide(
      "golden-value",
      "A value in a golden is not one that it may have."),
    CodeGuide(
      "held-out",
      "So many samples cannot be held out of so few."),
    CodeGuide(
      "idx-size",
      "An IDX file has other bytes than its header says."),
    CodeGuide(
      "idx-type",
      "An IDX file has elements of an unknown type."),
    CodeGuide(
      "image-channels",
      "Images have another number of channels than the model takes."),
    CodeGuide(
      "image-processor",
      "The configuration beside the model describes a processor that vitc does not know. Say with "
        + "--preprocess how images are prepared."),
    CodeGuide(
      "image-size",
      "An image is too large, or too long to be resized so."),
    CodeGuide(
      "jpeg",
      "A JPEG image is damaged, or of a kind that is not read."),
    CodeGuide(
      "json",
      "The text is no JSON."),
    CodeGuide(
      "label-name",
      "Labels are names that the model does not have."),
    CodeGuide(
      "label-position",
      "The data's classes are taken for the model's by their place in the order, because names do not say "
        + "which is which."),
    CodeGuide(
      "label-range",
      "Labels are numbers that are no class of the model."),
    CodeGuide(
      "labels",
      "The numbers of classes of model, names and data disagree."),
    CodeGuide(
      "list",
      "A list of paths and labels cannot be read."),
    CodeGuide(
      "list-labels",
      "A list has numbers for labels where the other part has names, or the other way round."),
    CodeGuide(
      "missing-data",
      "There is nothing at the path."),
    CodeGuide(
      "missing-file",
      "There is no such file."),
    CodeGuide(
      "no-split",
      "The data set has no such part."),
    CodeGuide(
      "not-a-file",
      "Something else than a regular file lies there: a folder, a device, a pipe."),
    CodeGuide(
      "not-an-image",
      "The file is no JPEG, PNG or WebP."),
    CodeGuide(
      "not-idx",
      "The file is no IDX."),
    CodeGuide(
      "not-npy",
      "The file is no array of NumPy."),
    CodeGuide(
      "not-zip",
      "The file is no zip archive."),
    CodeGuide(
      "npy-header",
      "The header of an array of NumPy cannot be read."),
    CodeGuide(
      "npy-size",
      "An array of NumPy has other bytes than its header says."),
    CodeGuide(
      "npy-type",
      "An array of NumPy has elements that are no numbers."),
    CodeGuide(
      "npy-version",
      "An array of NumPy is of an unknown version."),
    CodeGuide(
      "npz-name",
      "An archive of NumPy has no array that is named as images are."),
    CodeGuide(
      "other-split",
      "The part that is usually taken is not there; the other one is."),
    CodeGuide(
      "pickle",
      "A pickle is damaged, or does what data do not need. Nothing in it is run."),
    CodeGuide(
      "pickle-name",
      "A pickle names something else than NumPy's arrays; it is not looked up."),
    CodeGuide(
      "pickle-text",
      "A text in a pickle cannot be read."),
    CodeGuide(
      "pickle-value",
      "A pickle holds other values than CIFAR's."),
    CodeGuide(
      "png",
      "A PNG image is damaged, or of a kind that is not read."),
    CodeGuide(
      "preprocess",
      "How images are prepared, or what is wrong with what says so."),
    CodeGuide(
      "preprocess-guessed",
      "Nothing says how images are prepared; what is usual is taken, and may be wrong. Accuracy suffers "
        + "where it is."),
    CodeGuide(
      "report-schema",
      "The file is no report of a compile, or one of a newer vitc."),
    CodeGuide(
      "sample-shape",
      "A sample has another shape than the model takes."),
    CodeGuide(
      "skipped-sample",
      "A file cannot be read as an image, and is left out."),
    CodeGuide(
      "syntax",
      "A text cannot be read; line and column say where."),
    CodeGuide(
      "synthetic-data",
      "Made-up images are used, because no data are given: what is found out on them says little."),
    CodeGuide(
      "too-large",
      "A file, or part of one, is larger than is allowed before it is looked at."),
    CodeGuide(
      "too-long",
      "Packed data hold more than they should: they are damaged."),
    CodeGuide(
      "truncated",
      "The file ends too early."),
    CodeGuide(
      "unknown-data",
      "The file is of no kind of data that vitc reads."),
    CodeGuide(
      "unreadable-file",
      "The file cannot be opened or read; the message has the system's reason."),
    CodeGuide(
      "webp",
      "A WebP image is damaged."),
    CodeGuide(
      "zip",
      "A zip archive is damaged, or of a kind that is not read."),
    CodeGuide(
      "zlib",
      "zlib cannot work: there is no memory."),
    CodeGuide(
      "zstd",
      "zstd cannot work: there is no memory, or what it was given is damaged."),
  ]
}
