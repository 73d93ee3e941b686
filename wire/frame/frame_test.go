package frame

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"enclave/wire"
)

var alice, bob = ID([]byte("alice")), ID([]byte("bob00"))

// must unwraps the two Append functions that can refuse.
func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// every holds one frame of each type.
func every() []byte {
	data := [8]byte{1, 2, 3, 4, 5, 6, 7, 8}
	b := AppendHello(nil, Version)
	b = must(AppendOpen(b, []byte("ticket")))
	b = AppendOpened(b, bob, true)
	b = AppendRefused(b, bob, Expired)
	b = must(AppendSend(b, bob, []byte("sealed")))
	b = must(AppendRecv(b, alice, []byte("sealed")))
	b = AppendPong(AppendPing(b, data), data)
	b = AppendPeerGone(b, bob)
	b = AppendDrain(b, 5*time.Second)
	return AppendNote(b, "going for an update")
}

func TestEveryFrameReadsBack(t *testing.T) {
	for name, r := range map[string]io.Reader{
		"whole":        bytes.NewReader(every()),
		"byte by byte": iotest.OneByteReader(bytes.NewReader(every())),
		"data and EOF": iotest.DataErrReader(bytes.NewReader(every())),
	} {
		fr := NewReader(r)
		var again []byte
		for want := Hello; want <= Note; want++ {
			typ, body, err := fr.Next()
			if err != nil || typ != want {
				t.Fatalf("%s: Next = %v, %v; want %v", name, typ, err, want)
			}
			if again, err = reappend(again, typ, body); err != nil {
				t.Fatalf("%s: %v: %v", name, typ, err)
			}
		}
		if !bytes.Equal(again, every()) {
			t.Errorf("%s: read and written again differs:\n%x\n%x", name, again, every())
		}
		if _, _, err := fr.Next(); err != io.EOF {
			t.Errorf("%s: at the end: %v", name, err)
		}
	}
}

// reappend parses a body and writes it again.
func reappend(b []byte, t Type, body []byte) ([]byte, error) {
	switch t {
	case Hello:
		v, err := ParseHello(body)
		return AppendHello(b, v), err
	case Open:
		return AppendOpen(b, body)
	case Opened:
		peer, here, err := ParseOpened(body)
		return AppendOpened(b, peer, here), err
	case Refused:
		peer, code, err := ParseRefused(body)
		return AppendRefused(b, peer, code), err
	case Send, Recv:
		peer, payload, err := ParsePacket(body)
		if err != nil {
			return b, err
		}
		return appendPacket(b, t, peer, payload)
	case Ping:
		data, err := ParsePing(body)
		return AppendPing(b, data), err
	case Pong:
		data, err := ParsePing(body)
		return AppendPong(b, data), err
	case PeerGone:
		peer, err := ParsePeer(body)
		return AppendPeerGone(b, peer), err
	case Drain:
		grace, err := ParseDrain(body)
		return AppendDrain(b, grace), err
	case Note:
		return AppendNote(b, string(body)), nil
	}
	return b, ErrType
}

func TestReaderRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []byte
		want error
	}{
		{"type zero", []byte{0, 0, 0}, ErrType},
		{"type after the last", []byte{byte(Note) + 1, 0, 0}, ErrType},
		{"type 255", []byte{255, 255, 255}, ErrType},
		{"send over the maximum", []byte{byte(Send), 0xff, 0xff}, ErrLength},
		{"send without payload", append([]byte{byte(Send), 0, 5}, "alice"...), ErrLength},
		{"ping of nine", []byte{byte(Ping), 0, 9}, ErrLength},
		{"open of 64 KiB", []byte{byte(Open), 0xff, 0xff}, ErrLength},
		{"empty hello", []byte{byte(Hello), 0, 0}, ErrLength},
		{"cut in the header", []byte{byte(Ping), 0}, io.ErrUnexpectedEOF},
		{"cut in the body", []byte{byte(Ping), 0, 8, 1}, io.ErrUnexpectedEOF},
	} {
		typ, body, err := NewReader(bytes.NewReader(c.in)).Next()
		if !errors.Is(err, c.want) || typ != 0 || body != nil {
			t.Errorf("%s: %v, %x, %v; want %v", c.name, typ, body, err, c.want)
		}
	}
}

// A refused length must not cost the memory it asks for, nor make the reader wait.
func TestReaderJudgesTheHeaderAlone(t *testing.T) {
	r := NewReader(io.MultiReader(bytes.NewReader([]byte{byte(Open), 0xff, 0xff}), iotest.ErrReader(errors.New("waited for the body"))))
	if _, _, err := r.Next(); !errors.Is(err, ErrLength) || len(r.buf) != readerSize {
		t.Errorf("%v with a buffer of %d", err, len(r.buf))
	}
}

func TestReaderGrowsToTheLargestFrameOnly(t *testing.T) {
	payload := bytes.Repeat([]byte{7}, MaxPayload)
	in := every()
	in = must(AppendSend(in, bob, payload))
	in = must(AppendSend(in, bob, payload))
	r := NewReader(bytes.NewReader(in))
	large := 0
	for {
		typ, body, err := r.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if _, p, _ := ParsePacket(body); typ == Send && bytes.Equal(p, payload) {
			large++
		}
	}
	if large != 2 || len(r.buf) != HeaderLen+MaxBody {
		t.Errorf("%d large frames with a buffer of %d", large, len(r.buf))
	}
}

// TestReadyIsAskedBeforeAReadThatWaits: who flushes only when it is not must not be told
// that a frame is there of which the end is still to come.
func TestReadyIsAskedBeforeAReadThatWaits(t *testing.T) {
	whole := must(AppendSend(nil, bob, []byte("sealed")))
	for n := range whole {
		r := NewReader(io.MultiReader(bytes.NewReader(append(bytes.Clone(whole), whole[:n]...)), iotest.ErrReader(io.EOF)))
		if r.Ready() {
			t.Error("ready before anything was read")
		}
		if _, _, err := r.Next(); err != nil || r.Ready() || r.Buffered() != n {
			t.Errorf("%d bytes of the next: ready %t, %d buffered, %v", n, r.Ready(), r.Buffered(), err)
		}
	}
	r := NewReader(bytes.NewReader(append(bytes.Clone(whole), whole...)))
	if _, _, err := r.Next(); err != nil || !r.Ready() {
		t.Errorf("a whole one is there: ready %t, %v", r.Ready(), err)
	}
}

// TestEmptyReadsAreForgiven that bring nothing now and then: only many in a row are none.
func TestEmptyReadsAreForgiven(t *testing.T) {
	r := NewReader(&haltingReader{from: every()})
	for range Note {
		if _, _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
}

// haltingReader brings a byte, and then many times nothing.
type haltingReader struct {
	from  []byte
	empty int
}

func (h *haltingReader) Read(b []byte) (int, error) {
	if h.empty++; h.empty%(maxEmptyReads-1) != 0 {
		return 0, nil
	}
	n := copy(b[:1], h.from)
	h.from = h.from[n:]
	return n, nil
}

func TestReaderGivesUpOnNoProgress(t *testing.T) {
	if _, _, err := NewReader(emptyReader{}).Next(); err != io.ErrNoProgress {
		t.Errorf("got %v", err)
	}
}

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, nil }

func TestAppendRefusesWhatNoFrameCarries(t *testing.T) {
	pre := []byte("pre")
	for name, f := range map[string]func() ([]byte, error){
		"empty payload": func() ([]byte, error) { return AppendSend(pre, bob, nil) },
		"large payload": func() ([]byte, error) { return AppendRecv(pre, bob, make([]byte, MaxPayload+1)) },
		"empty ticket":  func() ([]byte, error) { return AppendOpen(pre, nil) },
		"large ticket":  func() ([]byte, error) { return AppendOpen(pre, make([]byte, wire.MaxTicketLen+1)) },
	} {
		if b, err := f(); !errors.Is(err, ErrSize) || !bytes.Equal(b, pre) {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if b := AppendNote(nil, strings.Repeat("x", 1000)); len(b) != HeaderLen+MaxNote {
		t.Errorf("note of %d bytes", len(b))
	}
	for d, want := range map[time.Duration]time.Duration{-time.Second: 0, 1500 * time.Millisecond: time.Second, 100 * time.Hour: 0xffff * time.Second} {
		if got, err := ParseDrain(AppendDrain(nil, d)[HeaderLen:]); err != nil || got != want {
			t.Errorf("drain of %v reads as %v, %v", d, got, err)
		}
	}
}

func TestIDs(t *testing.T) {
	for s, ok := range map[wire.SystemID]bool{"alice": true, "00000": true, "Alice": false, "alic": false, "alices": false, "": false, "al ce": false} {
		id, got := IDOf(s)
		if got != ok || (ok && id.System() != s) || (!ok && id != NoPeer) {
			t.Errorf("IDOf(%q) = %v, %t", s, id, got)
		}
	}
	if NoPeer.System() != "" {
		t.Error("NoPeer names somebody")
	}
	// A trailing field of a later version is no mistake, a bad name is.
	if peer, here, err := ParseOpened(append(AppendOpened(nil, bob, true)[HeaderLen:], "later"...)); peer != bob || !here || err != nil {
		t.Errorf("trailing bytes: %v, %t, %v", peer, here, err)
	}
	if _, _, err := ParsePacket([]byte("Alice\x01")); !errors.Is(err, ErrBody) {
		t.Errorf("upper case peer: %v", err)
	}
}

func TestNextDoesNotAllocate(t *testing.T) {
	in := must(AppendSend(nil, bob, make([]byte, 1420)))
	src := bytes.NewReader(in)
	r := NewReader(src)
	out := make([]byte, 0, 2048)
	if n := testing.AllocsPerRun(1000, func() {
		src.Reset(in)
		_, body, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		_, payload, _ := ParsePacket(body)
		if _, err := AppendRecv(out[:0], alice, payload); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

func BenchmarkNextAndAppend(b *testing.B) {
	batch := bytes.Repeat(must(AppendSend(nil, bob, make([]byte, 1420))), 11) // fills a TLS record
	src := bytes.NewReader(batch)
	r := NewReader(src)
	out := make([]byte, 0, 2048)
	b.ReportAllocs()
	b.SetBytes(1420)
	for b.Loop() {
		if src.Len() == 0 && r.Buffered() == 0 {
			src.Reset(batch)
		}
		_, body, err := r.Next()
		if err != nil {
			b.Fatal(err)
		}
		_, payload, _ := ParsePacket(body)
		out, _ = AppendRecv(out[:0], alice, payload)
	}
}

// TestBodiesAreReadWhole: a parser is called with what check let pass, and does not rely
// on it.
func TestBodiesAreReadWhole(t *testing.T) {
	var refused = append(bytes.Clone(bob[:]), 0)
	for name, err := range map[string]error{
		"hello of version 0":      second(ParseHello([]byte{0})),
		"hello without a version": second(ParseHello(nil)),
		"peer cut":                second(ParsePeer(bob[:4])),
		"peer of other letters":   second(ParsePeer([]byte("BOB00"))),
		"peer of a letter behind": second(ParsePeer([]byte("bob0{"))),
		"opened cut":              third(ParseOpened(bob[:])),
		"refused cut":             third(ParseRefused(bob[:])),
		"ping of seven":           second(ParsePing(make([]byte, 7))),
		"drain of one":            second(ParseDrain([]byte{1})),
		"refused for code 0":      third(ParseRefused(refused)),
		"refused nobody known":    third(ParseRefused([]byte("BOB00\x01"))),
		"packet without payload":  third(ParsePacket(bob[:])),
	} {
		if !errors.Is(err, ErrBody) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if peer, here, err := ParseOpened(AppendOpened(nil, bob, false)[HeaderLen:]); peer != bob || here || err != nil {
		t.Errorf("opened for one who is not here: %v, %t, %v", peer, here, err)
	}
	if peer, code, err := ParseRefused(AppendRefused(nil, NoPeer, BadTicket)[HeaderLen:]); peer != NoPeer || code != BadTicket || err != nil {
		t.Errorf("refused without a name: %v, %v, %v", peer, code, err)
	}
	if Type(0).String() != "type(0)" || (Note+1).String() != "type(12)" || Code(0).String() != "code(0)" || Code(200).String() != "code(200)" {
		t.Error("what has no name is named")
	}
}

func second[A any](_ A, err error) error        { return err }
func third[A, B any](_ A, _ B, err error) error { return err }
