package backup

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"
)

func sample(t testing.TB) []byte {
	var out bytes.Buffer
	w, err := NewWriter(&out, Head{Made: time.Unix(1, 0).UTC(), Schema: 2, Revision: 7, Pages: 2, Rows: map[string]int64{"systems": 3},
		Documents: []Document{{"relay.json", 5}}}, []byte("keys"))
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{w.Document([]byte("hello")), w.Page(bytes.Repeat([]byte{1}, pageSize)), w.Page(bytes.Repeat([]byte{2}, pageSize)), w.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// drain reads everything and returns how much of it there was.
func drain(raw []byte) (pages int64, err error) {
	r, secrets, err := NewReader(bytes.NewReader(raw))
	if err != nil {
		return 0, err
	}
	if len(secrets) > maxSecrets {
		return 0, errors.New("too many secrets")
	}
	for range r.Head.Documents {
		if _, _, err := r.Document(); err != nil {
			return 0, err
		}
	}
	for {
		_, err := r.Page()
		if errors.Is(err, io.EOF) {
			return pages, nil
		}
		if err != nil {
			return pages, err
		}
		pages++
	}
}

func TestRoundTrip(t *testing.T) {
	raw := sample(t)
	if n, err := drain(raw); n != 2 || err != nil {
		t.Fatalf("%d pages, %v", n, err)
	}
	wrong := 0
	for i := range raw { // every cut, and every byte changed
		if _, err := drain(raw[:i]); !errors.Is(err, ErrFormat) {
			t.Errorf("cut at %d: %v", i, err)
		}
		b := bytes.Clone(raw)
		b[i] ^= 0x20
		if _, err := drain(b); !errors.Is(err, ErrFormat) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		wrong += 2
	}
	if _, err := drain(append(raw, 0)); !errors.Is(err, ErrFormat) {
		t.Errorf("a byte more: %v", err)
	}
	t.Logf("%d damaged backups: all refused", wrong+1)
}

func TestWriterKeepsToItsHead(t *testing.T) {
	w, err := NewWriter(io.Discard, Head{Schema: 1, Pages: 1, Documents: []Document{{"a", 1}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	page := make([]byte, pageSize)
	if w.Page(page) == nil || w.Document(nil) == nil || w.Document([]byte("x")) != nil || w.Document([]byte("x")) == nil ||
		w.Close() == nil || w.Page(page[1:]) == nil || w.Page(page) != nil || w.Page(page) == nil || w.Close() != nil {
		t.Error("it takes what its head does not have, or refuses what it has")
	}
	if _, err := NewWriter(io.Discard, Head{Schema: 1}, nil); err == nil {
		t.Error("no pages")
	}
}

func FuzzReader(f *testing.F) {
	raw := sample(f)
	f.Add(raw)
	f.Add(raw[:60])
	f.Add([]byte(magic))
	f.Add([]byte(magic + "\x00\x00\x00\x02{}\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := drain(b); err == nil && (n < 1 || int64(len(b)) < n*pageSize) {
			t.Errorf("%d pages of %d bytes", n, len(b))
		}
	})
}
