package seal

// NoCoreDump does nothing: Windows writes no dump of a process unless told to.
func NoCoreDump() error { return nil }
