package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// secretFile is where the secret of something new goes, instead of standard output.
type secretFile struct {
	name string
	file *newFile
}

func (s *secretFile) flags(c *cobra.Command) {
	c.Flags().StringVar(&s.name, "out", "", "put the secret into a `FILE` that only you can read, and print none")
	_ = c.MarkFlagFilename("out")
}

// open makes the file before the secret is made: one that cannot be kept would be lost.
func (s *secretFile) open() (err error) {
	if s.name == "" {
		return nil
	}
	if s.file, err = createFile(s.name); err != nil {
		return usage("--out: %v", err).hint("choose a FILE that does not exist yet, in a directory that you can write to")
	}
	return nil
}

// keep takes the secret out of what will be printed, if there is a file for it. what names
// its owner, should it be lost.
func (s *secretFile) keep(secret *string, what string) error {
	if s.file == nil {
		return nil
	}
	if err := s.file.keep([]byte(*secret + "\n")); err != nil {
		return fmt.Errorf("%s was created and its secret is lost; remove it: %w", what, err)
	}
	*secret = ""
	return nil
}

// Close removes a file that nothing was kept in.
func (s *secretFile) Close() {
	if s.file != nil {
		s.file.Close()
	}
}

// printSecret prints a secret. What to do with it is for people: without a terminal the
// secret stands alone, so that "> FILE" makes what --key-file and --token-file read.
func (a *app) printSecret(s *secretFile, secret, name, id, next string) {
	if s.file != nil {
		a.printf("created %s (%s); its secret is in %s\n", clean(name), id, s.name)
		return
	}
	a.printf("%s\n", secret)
	if a.Terminal {
		a.printf("This secret is shown once. %s\n", next)
	}
}
