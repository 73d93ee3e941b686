package link

import (
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// answer is a message with an address for each TTL.
func answer(t testing.TB, secs ...uint32) []byte {
	t.Helper()
	name := dnsmessage.MustNewName("files.example.com.")
	m := dnsmessage.Message{Header: dnsmessage.Header{Response: true},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	for _, s := range secs {
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: s}, Body: &dnsmessage.AResource{}})
	}
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestTheLeastTTLCounts(t *testing.T) {
	var seen ttls
	if seen.least() != 0 {
		t.Error("nothing was seen")
	}
	seen.note(answer(t, 300, 60, 600))
	seen.note(answer(t))
	seen.note(answer(t, 120))
	if got := seen.least(); got != time.Minute {
		t.Errorf("%s", got)
	}
	seen.note(answer(t, 0))
	if seen.least() != 0 {
		t.Error("a TTL of 0 does not count")
	}
}

func TestLookupKnowsHosts(t *testing.T) {
	addrs, _, err := system{}.Lookup(t.Context(), "localhost")
	if err != nil || len(addrs) == 0 || !addrs[0].Unmap().IsLoopback() {
		t.Errorf("localhost is %v, %v", addrs, err)
	}
}

func FuzzTTL(f *testing.F) {
	f.Add(answer(f, 300, 60))
	f.Add([]byte("no message"))
	f.Fuzz(func(t *testing.T, msg []byte) { new(ttls).note(msg) })
}
