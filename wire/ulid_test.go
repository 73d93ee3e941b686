package wire

import (
	"testing"
	"time"
)

func TestOrgIDSortsByTime(t *testing.T) {
	at := time.UnixMilli(1_469_918_176_385)
	id := NewOrgID(at)
	// 01ARYZ6S41 is the timestamp of the ULID specification's example.
	if len(id) != 26 || id[:10] != "01aryz6s41" {
		t.Fatalf("got %q, want 26 characters beginning 01aryz6s41", id)
	}
	if again := NewOrgID(at); again == id {
		t.Fatal("two IDs of one millisecond are equal")
	}
	if later := NewOrgID(at.Add(time.Millisecond)); later <= id {
		t.Fatalf("%s does not sort after %s", later, id)
	}
}
