"""The Slicer side: MRML nodes, and the engine in a child process. Imports no Qt and no torch."""
