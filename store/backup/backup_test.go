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
		Documents: []Document{{"relay.json", 5}, {"agent.json", 3}}}, []byte("keys"))
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{w.Document([]byte("hello")), w.Document([]byte("you")), w.Page(bytes.Repeat([]byte{1}, pageSize)), w.Page(bytes.Repeat([]byte{2}, pageSize)), w.Close()} {
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
	for _, d := range r.Head.Documents {
		name, content, err := r.Document()
		if err == nil && (name != d.Name || int64(len(content)) != d.Size) {
			err = errors.New("another document than the head names")
		}
		if err != nil {
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

// TestAHeadMakesSense before anything is made room for by what it says.
func TestAHeadMakesSense(t *testing.T) {
	rows := func(n int) map[string]int64 {
		m := make(map[string]int64)
		for i := range n {
			m[string(rune('a'+i))] = 1
		}
		return m
	}
	for name, c := range map[string]struct {
		change func(*Head)
		ok     bool
	}{
		"the least": {func(*Head) {}, true},
		"the most": {func(h *Head) {
			h.Pages, h.Rows, h.Documents = maxPages, rows(maxTables), make([]Document, 8)
			h.Documents[0].Size = maxDocument
		}, true},
		"no version":           {func(h *Head) { h.Version = 0 }, false},
		"a later version":      {func(h *Head) { h.Version++ }, false},
		"no page":              {func(h *Head) { h.Pages = 0 }, false},
		"pages without end":    {func(h *Head) { h.Pages = maxPages + 1 }, false},
		"no schema":            {func(h *Head) { h.Schema = 0 }, false},
		"tables without end":   {func(h *Head) { h.Rows = rows(maxTables + 1) }, false},
		"documents":            {func(h *Head) { h.Documents = make([]Document, 9) }, false},
		"records":              {func(h *Head) { h.Audit.Records = -1 }, false},
		"less than a document": {func(h *Head) { h.Documents = []Document{{"a", -1}} }, false},
		"a document too large": {func(h *Head) { h.Documents = []Document{{"a", 1}, {"b", maxDocument + 1}} }, false},
	} {
		h := Head{Version: Version, Pages: 1, Schema: 1}
		c.change(&h)
		if err := h.check(); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewWriter(io.Discard, Head{Schema: 1, Pages: 1}, make([]byte, maxSecrets+1)); err == nil {
		t.Error("more secrets than a reader takes")
	}
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
