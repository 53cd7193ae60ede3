extension CodeGuide {
  /// What the command line, pipelines and protocols say.
  static let words: [CodeGuide] = [
    CodeGuide(
      "already-reduced",
      "'select{by=auto}' finds out on the whole teacher what it can do without, and something was taken "
        + "from it before. Put the other passes behind it, or choose layers by damage."),
    CodeGuide(
      "argument",
      "A call of the C library got an argument that makes no sense: a pointer that is NULL, a structure "
        + "of another size, a count or a type out of range. vitc.h says what each call takes."),
    CodeGuide(
      "check-reference",
      "What a model is held against is neither a report of a compile nor a golden."),
    CodeGuide(
      "count-too-large",
      "More layers, or blocks, are asked for than the model has that can be changed so. 'vitc inspect' "
        + "lists the layers, and why some cannot."),
    CodeGuide(
      "data-argument",
      "The number behind 'synthetic:' is no number of images that can be made up."),
    CodeGuide(
      "depfile-folder",
      "An output lies in a folder that is data, so that the folder's age changes with each run: it is "
        + "left out of the file of dependencies. Write outputs elsewhere."),
    CodeGuide(
      "depfile-name",
      "The name has characters that a rule of make, or ninja's reader of such rules, cannot hold."),
    CodeGuide(
      "golden-data",
      "What a golden holds a model to cannot be measured, because data or teacher are missing. Give them, "
        + "or leave those limits out."),
    CodeGuide(
      "golden-exists",
      "There is a golden of that name already, or two models would have one. 'vitc golden bless' writes "
        + "it anew."),
    CodeGuide(
      "golden-missing",
      "There is no golden where one is looked for. 'vitc golden init' records it."),
    CodeGuide(
      "golden-name",
      "A golden is named after its model's file, whose name is none that a file could have."),
    CodeGuide(
      "input-count",
      "Two models take other numbers of inputs, or another number was given than the model takes."),
    CodeGuide(
      "layer-not-removable",
      "The block of that layer cannot become the identity or a linear map: what goes around it is more "
        + "than its two residual branches."),
    CodeGuide(
      "layer-not-replaceable",
      "The layer is named to be replaced, and a mixer cannot stand in its place; the message says why, as "
        + "does 'vitc inspect'."),
    CodeGuide(
      "layer-not-shareable",
      "The layer cannot use the attention map of one before: its own heads or tokens are others, or "
        + "something lies between that changes them."),
    CodeGuide(
      "layer-unknown",
      "The model has no layer of that number. 'vitc inspect' lists them."),
    CodeGuide(
      "nothing-selected",
      "No layer keeps the threshold. The message lists what the layers have."),
    CodeGuide(
      "operand-unexpected",
      "There are more words beside the options than the command takes."),
    CodeGuide(
      "option-conflict",
      "Two options contradict each other, or one has nothing to say beside another."),
    CodeGuide(
      "option-missing",
      "The command needs an option that is not given."),
    CodeGuide(
      "option-twice",
      "An option that may be given once is given twice."),
    CodeGuide(
      "option-unknown",
      "The command, pass or mixer has no such option. A name that is near is suggested; 'vitc help' lists "
        + "all."),
    CodeGuide(
      "option-value",
      "The value is not one that the option takes; the message says what is expected."),
    CodeGuide(
      "output-format",
      "The name's ending and the format that is asked for disagree, or a result cannot be written in that "
        + "form."),
    CodeGuide(
      "output-is-input",
      "An output would be written over a file that the command reads."),
    CodeGuide(
      "output-twice",
      "Two outputs are the same file."),
    CodeGuide(
      "pipeline-syntax",
      "The text of a pipeline is not passes apart by commas, each with options in braces as key=value."),
    CodeGuide(
      "plan-name",
      "What schedules the steps cannot read such a name: one with a line break or '|', or that is no UTF-8."),
    CodeGuide(
      "precision",
      "The file's weights are not as precise as asked for, or the model has no linear map that could be "
        + "computed so."),
    CodeGuide(
      "response-file",
      "A file of words (@FILE) cannot be read so: a quote stays open, or files name each other without "
        + "end."),
    CodeGuide(
      "score-missing",
      "Layers are to be chosen by a number that nobody has found out. Run 'score', or swap and distil, "
        + "before."),
    CodeGuide(
      "study-file",
      "The folder of a study holds a file that is none of a study's, or is damaged."),
    CodeGuide(
      "study-job",
      "The study has no job of that name: 'vitc study --dry-run' lists them."),
    CodeGuide(
      "study-left-out",
      "A job of a study does not fit this teacher, and is left out; the others go on."),
    CodeGuide(
      "study-other",
      "The folder belongs to a study of another teacher, protocol or data. Choose another folder."),
    CodeGuide(
      "study-position",
      "A layer has no maps of queries, keys and values of its own, and so cannot be made sparser for the "
        + "matched-position study."),
    CodeGuide(
      "study-protocol",
      "The protocol of a study is no JSON of the form that schemas/study_protocol.schema.json describes, "
        + "or a number in it is out of range."),
    CodeGuide(
      "target-unreachable",
      "The cost or size that is aimed for lies beyond what may be lost. A larger drop, less agreement or "
        + "more layers to replace allow more; the message says how far it goes."),
    CodeGuide(
      "unknown-action", "'vitc golden' does nothing of that name. 'vitc help golden' lists what it does."),
    CodeGuide(
      "unknown-code",
      "No message has that code. 'vitc explain' lists all."),
    CodeGuide(
      "unknown-command",
      "vitc has no such command. A name that is near is suggested; 'vitc help' lists all."),
    CodeGuide(
      "unknown-job",
      "The study has no job of that name. 'vitc study --dry-run' lists them."),
    CodeGuide(
      "unknown-mixer",
      "There is no mixer of that name. 'vitc help mixer' lists them."),
    CodeGuide(
      "unknown-operation",
      "The text names an operation that vitc does not have. 'vitc help op' lists them."),
    CodeGuide(
      "unknown-option",
      "There is no such option before a command; those of a command stand behind it."),
    CodeGuide(
      "unknown-pass",
      "There is no pass of that name. 'vitc help pass' lists them."),
    CodeGuide(
      "unknown-shell",
      "Completions are for bash, zsh and fish."),
    CodeGuide(
      "usage",
      "The words behind vitc make no sense. 'vitc help' shows what there is."),
  ]
}
