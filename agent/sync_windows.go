package agent

// syncDir does nothing: Windows offers no sync of a directory, and its rename is
// journalled by the file system.
func syncDir(string) error { return nil }
