package stream

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"enclave/wire"
	"enclave/wire/disco"
)

func frames(t testing.TB, sizes ...int) (b []byte) {
	for i, n := range sizes {
		var err error
		if b, err = Append(b, bytes.Repeat([]byte{byte(i + 1)}, n)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestDatagramsComeBack(t *testing.T) {
	sizes := []int{1, 1340, MaxDatagram, 148, MaxDatagram, 32}
	for name, r := range map[string]io.Reader{
		"whole":        bytes.NewReader(frames(t, sizes...)),
		"byte by byte": iotest.OneByteReader(bytes.NewReader(frames(t, sizes...))),
		"data and EOF": iotest.DataErrReader(bytes.NewReader(frames(t, sizes...))),
	} {
		in := NewReader(r)
		for i, n := range sizes {
			b, err := in.Next()
			if err != nil || len(b) != n || b[0] != byte(i+1) || b[n-1] != byte(i+1) {
				t.Fatalf("%s: datagram %d: %d bytes, %v", name, i, len(b), err)
			}
		}
		if _, err := in.Next(); err != io.EOF {
			t.Errorf("%s: at the end: %v", name, err)
		}
	}
}

func TestWhatIsNoDatagram(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want error
	}{
		"nothing":       {"\x00\x00", ErrLength},
		"too long":      {"\x24\x01", ErrLength}, // 9217: refused before a byte of it is there
		"the most":      {"\xff\xff", ErrLength},
		"half a header": {"\x00", io.ErrUnexpectedEOF},
		"cut":           {"\x00\x05abc", io.ErrUnexpectedEOF},
		"TLS":           {"\x16\x03\x01\x02\x00" + strings.Repeat("x", 512), io.ErrUnexpectedEOF},
	} {
		if _, err := NewReader(strings.NewReader(c.in)).Next(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for _, n := range []int{0, MaxDatagram + 1} {
		if b, err := Append([]byte("x"), make([]byte, n)); err != ErrLength || string(b) != "x" {
			t.Errorf("append of %d bytes: %v", n, err)
		}
	}
}

func TestKnock(t *testing.T) {
	a, b := disco.NewPrivateKey(), disco.NewPrivateKey()
	sealed := disco.NewPair(a, b.Public()).Seal(nil, disco.Ping{Tx: disco.NewTxID(), WireGuard: wire.WireGuardKey{1}})
	if got := Knock(Protocols(sealed)); !bytes.Equal(got, sealed) {
		t.Errorf("a knock of %d bytes does not come back", len(sealed))
	}
	for name, list := range map[string][]string{
		"none":        nil,
		"no knock":    {ALPN},
		"a browser":   {"h2", "http/1.1"},
		"other order": {string(sealed), ALPN},
		"three":       {ALPN, string(sealed), string(sealed)},
		"a stranger":  {"h2", string(sealed)},
		"too long":    {ALPN, string(sealed) + strings.Repeat("x", maxKnock+1-len(sealed))},
		"noise":       {ALPN, strings.Repeat("x", 200)},
	} {
		if Knock(list) != nil {
			t.Errorf("%s: taken for a knock", name)
		}
	}
}

// FuzzReader reads anything: it never panics, returns nothing beyond the limits, and what
// it read, written again, is what it read.
func FuzzReader(f *testing.F) {
	f.Add(frames(f, 1, 32, 148))
	f.Add(frames(f, MaxDatagram))
	f.Add([]byte{0, 0})
	f.Add([]byte{0x24, 0x01, 1, 2, 3})
	f.Add([]byte{0, 3, 1, 2})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(bytes.NewReader(in))
		var again []byte
		for {
			b, err := r.Next()
			if err != nil {
				if err == io.EOF && !bytes.Equal(again, in) {
					t.Fatal("read to the end, and written again it differs")
				}
				break
			}
			if len(b) == 0 || len(b) > MaxDatagram {
				t.Fatalf("%d bytes", len(b))
			}
			if again, err = Append(again, b); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(in, again) {
			t.Fatal("what was read is not what was there")
		}
	})
}

func BenchmarkReader(b *testing.B) {
	in := frames(b, 1340, 1340, 1340, 1340)
	src := bytes.NewReader(in)
	r := NewReader(src)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Next(); err != nil {
			src.Reset(in)
			r.r.Reset(src)
		}
	}
}
