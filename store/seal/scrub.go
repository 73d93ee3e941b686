package seal

import (
	"runtime"
	"runtime/debug"
)

// Scrub overwrites what the collector has freed, as far as small objects go: copies of
// keys that the standard library made and dropped, and that nobody can reach to overwrite.
// It takes the free places of every small size and fills them with zeroes.
func Scrub() {
	runtime.GC()
	runtime.GC()           // what hung on the first round's garbage, such as caches
	const enough = 1 << 20 // of each size
	for size := 8; size <= 1024; size += 8 {
		kept := make([][]byte, enough/size)
		for i := range kept {
			kept[i] = make([]byte, size)
		}
		runtime.KeepAlive(kept) // or its places would be given out again
	}
	debug.FreeOSMemory()
}
