package listing

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"enclave/tui/screen"
	"enclave/wire"
)

// Checks of fields: what text alone can show while it is typed. The rest comes with the
// server's dry run.

// Needed refuses an empty line with a sentence.
func Needed(sentence string) func(string) error {
	return func(text string) error {
		if text == "" {
			return errors.New(sentence)
		}
		return nil
	}
}

// OneOf takes one of the words, or nothing.
func OneOf(words ...string) func(string) error {
	return func(text string) error {
		if text == "" || slices.Contains(words, text) {
			return nil
		}
		return fmt.Errorf("want %s", strings.Join(words, ", "))
	}
}

// Instant takes an instant as screen.Instant reads it, or nothing.
func Instant(now time.Time) func(string) error {
	return func(text string) error {
		if text == "" {
			return nil
		}
		_, err := screen.Instant(text, now)
		return err
	}
}

// Tags takes tags with spaces between.
func Tags(text string) error {
	_, err := ReadTags(text)
	return err
}

// ReadTags reads what Tags takes.
func ReadTags(text string) (out []wire.Tag, err error) {
	for _, word := range strings.Fields(text) {
		t, err := wire.ParseTag(word)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// Systems takes systems of the organisation, by name or ID, with spaces between; read
// gives their IDs.
func Systems(s *screen.State) (check func(string) error, read func(string) []wire.SystemID) {
	ids := make(map[string]wire.SystemID)
	for i := range s.Org.Systems {
		sys := &s.Org.Systems[i]
		ids[sys.Name], ids[string(sys.ID)] = sys.ID, sys.ID
	}
	return func(text string) error {
			for _, name := range strings.Fields(text) {
				if ids[name] == "" {
					return fmt.Errorf("no system is called %s", name)
				}
			}
			return nil
		}, func(text string) (out []wire.SystemID) {
			for _, name := range strings.Fields(text) {
				out = append(out, ids[name])
			}
			return out
		}
}
