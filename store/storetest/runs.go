package storetest

import (
	"testing"
	"time"

	"enclave/store"
	"enclave/wire"
)

func testRuns(t *testing.T, l *Lab) {
	_, secret := l.Key(store.KeyParams{Name: "runs", Kind: store.Ephemeral, Retention: time.Hour, Tags: []wire.Tag{"ai", "more"}})
	_, general := l.Key(store.KeyParams{Name: "general", Automatic: true, Tags: []wire.Tag{"ai"}})
	run := func(name string, secret store.SecretHash, tags ...wire.Tag) (store.System, error) {
		p := l.Params(secret, name)
		p.Run = &store.RunParams{Tags: tags, Life: time.Minute}
		sys, _, err := l.Enrol(l.Ctx, start, p)
		return sys, err
	}
	sys, err := run("run-a", secret, "ai")
	l.must(err)
	if sys.Kind != store.Run || !sys.Approved || len(sys.Tags) != 1 || sys.Tags[0] != "ai" || sys.Retention != wire.RunRetention ||
		!sys.ExpiresAt.Equal(start.Add(time.Minute)) || sys.ExpiryAction != wire.DeleteOnExpiry {
		t.Errorf("a run is %+v", sys)
	}
	if list, err := l.Audit(l.Ctx, store.AuditQuery{Action: "system.enrol", Object: "system:" + string(sys.ID)}); err != nil || len(list) != 1 {
		t.Errorf("recorded %+v, %v", list, err)
	}
	all, err := run("run-b", secret)
	l.must(err)
	if len(all.Tags) != 2 {
		t.Errorf("a run that asks for no tags has %v", all.Tags)
	}
	before, records := l.state()
	_, err = run("run-c", secret, "ai", "admin")
	l.want(err, store.ErrKeyTag)
	_, err = run("run-d", general, "ai")
	l.want(err, store.ErrKeyUnknown)
	if after, n := l.state(); after != before || n != records {
		t.Error("a refused run left something")
	}
	// One that leaves without a word is gone after the retention of a run, not of its key.
	l.must(l.SetConnected(l.Ctx, sys.ID, start, "192.0.2.1"))
	l.must(l.SetDisconnected(l.Ctx, sys.ID, start))
	gone, _, err := l.DeleteLapsed(l.Ctx, l.at(wire.RunRetention))
	l.must(err)
	if len(gone) != 1 || gone[0] != sys.ID {
		t.Errorf("gone are %v", gone)
	}
}
