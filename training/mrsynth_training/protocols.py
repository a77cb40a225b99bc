"""The scores that a checkpoint can be given, by name; what each is, docs/study.md and training/README.md say."""

PEERS = ("peer:selfrdb", "peer:resvit", "peer:syndiff")
PROTOCOLS = ("paper", "brain", "lesion", "drift", "shift", *PEERS, "tissue", "artefacts")
