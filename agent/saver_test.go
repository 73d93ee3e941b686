package agent

import (
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// TestSaves: the newest state is on disk soon after a change and at the end, however
// fast changes come, and a disk that fails stops nothing.
func TestSaves(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		k := &countingKeeper{MemoryKeeper: b.keeper}
		b.cfg.Keeper = k
		b.onStream(func(say func(wire.Message), gone <-chan struct{}) {
			m := mapOf(1, time.Now().Add(time.Hour))
			say(wire.Message{Map: &m})
			for rev := wire.Revision(1); rev < 500; rev++ {
				time.Sleep(10 * time.Millisecond)
				say(wire.Message{Delta: &wire.Delta{Since: rev, Revision: rev + 1, ValidUntil: time.Now().Add(time.Hour)}})
			}
			time.Sleep(10 * time.Second)
			say(wire.Message{Heartbeat: &wire.Heartbeat{Revision: 500, ValidUntil: time.Now().Add(9 * time.Hour)}})
			<-gone
		})
		b.start(t)
		after(10 * time.Second)
		if k.saves.Load() > 12 || b.stored(t).Seen != 500 {
			t.Errorf("%d writes in 10 s, revision %d", k.saves.Load(), b.stored(t).Seen)
		}
		after(10 * time.Second)
		k.fail.Store(true)
		b.events.post(&wire.Reach{})
		after(time.Second)
		b.wantState(t, api.AgentRunning)
		k.fail.Store(false)
		b.cancel()
		<-b.done
		b.done <- nil
		var m wire.Map
		if err := json.Unmarshal(b.stored(t).Map, &m); err != nil || time.Until(m.ValidUntil) < 8*time.Hour {
			t.Errorf("the end did not keep the last validity: %s, %v", m.ValidUntil, err)
		}
	})
}

// TestAFailedSaveIsTriedAgain: a disk that was full for a moment does not leave an older
// map behind, which a crash would bring back, although nothing changes any more.
func TestAFailedSaveIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		k := &countingKeeper{MemoryKeeper: b.keeper}
		b.cfg.Keeper = k
		b.onStream(func(say func(wire.Message), gone <-chan struct{}) {
			until := time.Now().Add(time.Hour)
			m := mapOf(1, until)
			say(wire.Message{Map: &m})
			time.Sleep(5 * time.Second)
			say(wire.Message{Delta: &wire.Delta{Since: 1, Revision: 2, ValidUntil: until}})
			steadyBeat(say, gone, wire.Heartbeat{Revision: 2, ValidUntil: until})
		})
		b.start(t)
		after(4 * time.Second)
		k.fail.Store(true)
		after(time.Minute)
		if seen := b.stored(t).Seen; seen != 1 {
			t.Fatalf("stored revision %d on a disk that fails", seen)
		}
		tries := k.saves.Load()
		k.fail.Store(false)
		after(saveRetry + saveGap)
		if seen := b.stored(t).Seen; seen != 2 {
			t.Errorf("revision %d is stored once there is room, want 2", seen)
		}
		after(time.Minute)
		if k.saves.Load() > tries+1 || tries > 10 {
			t.Errorf("%d writes while it failed, %d after", tries, k.saves.Load()-tries)
		}
	})
}

// steadyBeat says h until the stream ends.
func steadyBeat(say func(wire.Message), gone <-chan struct{}, h wire.Heartbeat) {
	for {
		select {
		case <-time.After(wire.HeartbeatEvery):
			h.Now = time.Now()
			say(wire.Message{Heartbeat: &h})
		case <-gone:
			return
		}
	}
}

type countingKeeper struct {
	*MemoryKeeper
	saves atomic.Int32
	fail  atomic.Bool
}

func (k *countingKeeper) Save(b []byte) error {
	k.saves.Add(1)
	if k.fail.Load() {
		return errors.New("disk full")
	}
	return k.MemoryKeeper.Save(b)
}
