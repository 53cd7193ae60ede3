extension CodeGuide {
  /// What is wrong with a model, or notable in it.
  static let models: [CodeGuide] = [
    CodeGuide(
      "bad-checksum",
      "Part of the file does not match its checksum: it is damaged. Copy it again."),
    CodeGuide(
      "bad-magic",
      "The file begins as no file of that kind does."),
    CodeGuide(
      "bad-manifest",
      "The description in a .vmod contradicts itself or its frames: the file is damaged or was made by "
        + "something else."),
    CodeGuide(
      "bad-probe",
      "A probe of a .vmod has other inputs or outputs than the model."),
    CodeGuide(
      "bad-tensor",
      "The bytes of a tensor do not unpack to what its record says: the file is damaged."),
    CodeGuide(
      "batch-fixed",
      "The batch of the model is fixed and cannot be opened; samples run so many at a time. Export with a "
        + "dynamic batch to avoid that."),
    CodeGuide(
      "batch-mixed",
      "A node makes results of several images from one another, so that the batch cannot be opened."),
    CodeGuide(
      "batch-opened",
      "The batch was fixed, and the model does the same to each image: any batch is taken."),
    CodeGuide(
      "classes",
      "How the classes of the data are numbered in the model."),
    CodeGuide(
      "damaged",
      "The compressed data in the file cannot be unpacked."),
    CodeGuide(
      "dequantised",
      "Weights or operations of whole numbers are taken for the floats that they stand for, to be trained "
        + "or rewritten."),
    CodeGuide(
      "digest-mismatch",
      "A text names tensors by their digest, and the file beside it holds others."),
    CodeGuide(
      "duplicate-value",
      "A value is defined by two nodes."),
    CodeGuide(
      "elided-tensor",
      "The tensor's contents are not in the file, and the command needs them."),
    CodeGuide(
      "embedding",
      "The model's output is taken for an embedding and not for classes, because it is as wide as its "
        + "tokens and nothing names classes."),
    CodeGuide(
      "evaluation-missing",
      "The hybrid was measured on data of their own, which also decides what is held out: 'vitc rebuild' needs them."
    ),
    CodeGuide(
      "file-too-large",
      "The result would be larger than a file of that format may be."),
    CodeGuide(
      "fitted-size",
      "The model was read for another size of images, because the data are of that size."),
    CodeGuide(
      "fixed-size",
      "The model takes images of any size; the hybrid is for one."),
    CodeGuide(
      "format-version",
      "The file was written by a newer vitc. Take that one, or a newer."),
    CodeGuide(
      "head",
      "The pass 'head' cannot be used so; the message says why."),
    CodeGuide(
      "head-classes",
      "The new head's classes and the labels of the data do not fit: fewer classes are asked for than "
        + "there are, or there is but one."),
    CodeGuide(
      "head-order",
      "'head' makes a teacher with other classes: run it alone with 'vitc opt', and compile what it "
        + "gives."),
    CodeGuide(
      "head-output",
      "The model's output is not made by one linear map, in place of which a new head could stand."),
    CodeGuide(
      "head-singular",
      "The samples say nothing about the new head: the model gives the same numbers for all of them."),
    CodeGuide(
      "head-size",
      "The new head would need more memory than is allowed."),
    CodeGuide(
      "invalid-graph",
      "A graph breaks a rule of the IR: a value is used before it is defined, types disagree. In a text "
        + "it is the text's fault; else vitc's."),
    CodeGuide(
      "invalid-input",
      "An input cannot be used; the message says why."),
    CodeGuide(
      "invalid-layer",
      "The record of a layer contradicts the graph."),
    CodeGuide(
      "layer-changed",
      "Something was done to the layer that cannot be undone by giving it its attention back."),
    CodeGuide(
      "lineage-differs",
      "The teacher or the data given are not those that the hybrid was made from: their digests differ."),
    CodeGuide(
      "lineage-missing",
      "The file does not say how it was made: 'vitc compile' did not write it, or an older version did."),
    CodeGuide(
      "lineage-value",
      "An entry of the lineage is not what it should be: something else wrote it."),
    CodeGuide(
      "merge-order",
      "The mixer scans the grid in an order that merged tokens do not have."),
    CodeGuide(
      "mixer-fit",
      "What is to be solved for does not fit the mixer's parameters."),
    CodeGuide(
      "mixer-groups",
      "The mixer's groups do not divide its heads."),
    CodeGuide(
      "mixer-heads",
      "The mixer's heads do not divide its width."),
    CodeGuide(
      "mixer-init",
      "The attention that is replaced does not fit the mixer that would start from it."),
    CodeGuide(
      "mixer-layout",
      "The mixer cannot stand on tokens laid out so: it wants patches on a grid, or a prefix."),
    CodeGuide(
      "mixer-width",
      "The mixer's width is too small to be one channel, or larger than it may be."),
    CodeGuide(
      "no-attention",
      "No attention layer was recognised. 'vitc inspect --explain' tells what was nearly one, and what "
        + "stopped it."),
    CodeGuide(
      "no-classes",
      "The model's first output is no row of class scores."),
    CodeGuide(
      "no-gradient",
      "An operation between the loss and what is trained has no gradient."),
    CodeGuide(
      "no-image-input",
      "The model's input takes no images."),
    CodeGuide(
      "no-layers",
      "The model has no attention layers for that pass to work on."),
    CodeGuide(
      "no-outputs",
      "The model has no outputs."),
    CodeGuide(
      "no-part",
      "A part of a compile that --parts names is not there: the step that writes it has not run, or elsewhere."
    ),
    CodeGuide(
      "no-parts",
      "The pipeline distils nothing, so no part of it can be done alone."),
    CodeGuide(
      "no-replaceable",
      "The model has attention layers, and none of them can be replaced; the message says why."),
    CodeGuide(
      "not-repeatable",
      "What decided the result, as a deadline by the clock, is never the same again."),
    CodeGuide(
      "nothing-to-factorise",
      "No map of the model would have fewer weights as two."),
    CodeGuide(
      "nothing-to-prune",
      "The model has no perceptron, or no heads, of the kind that could become smaller."),
    CodeGuide(
      "raise-differs",
      "The model in vitc's operations does not compute what the file does on a random input, so the "
        + "file's own operations are used: slower, and without layers. Please report it."),
    CodeGuide(
      "retain-impossible",
      "Tokens cannot be dropped in this model: its layers, or what is behind them, need all of them."),
    CodeGuide(
      "rewrite-cycle",
      "Two rewrites undo each other: vitc is wrong."),
    CodeGuide(
      "rewrite-type",
      "A rewrite would change what a value is: vitc is wrong."),
    CodeGuide(
      "scan-order",
      "The order in which a mixer reads tokens is impossible for so many tokens, patches and columns."),
    CodeGuide(
      "several-inputs",
      "The model takes several inputs, and the data give another number."),
    CodeGuide(
      "solve-singular",
      "What a layer reads is no number, or the same for all samples, so that nothing can be solved for."),
    CodeGuide(
      "teacher-digest",
      "The model was made from another teacher than the one given."),
    CodeGuide(
      "teacher-mismatch",
      "Teacher and model have other blocks, so that they cannot be put beside each other."),
    CodeGuide(
      "teacher-missing",
      "The pass needs the model in which the layers were replaced, and a file of a hybrid alone does not "
        + "hold it."),
    CodeGuide(
      "tensor-elided",
      "The model was read from a text without its tensors, and their values are needed."),
    CodeGuide(
      "tensor-missing",
      "The file of tensors beside a text has none of that name."),
    CodeGuide(
      "tokens-merged",
      "Tokens were merged or dropped, and the pass wants all of them: run it before."),
    CodeGuide(
      "tokens-return",
      "What is behind a merge works on all tokens again, so that none can be merged."),
    CodeGuide(
      "tokens-unknown",
      "The number of tokens is not known when the model is read. Export with a fixed size of images, or "
        + "give --input-shape."),
    CodeGuide(
      "too-many-bytes",
      "The result is larger than was asked for, and is not written."),
    CodeGuide(
      "type-mismatch",
      "A text declares another type than the operation gives."),
  ]
}
