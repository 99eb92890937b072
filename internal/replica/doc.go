// Package replica is what several servers of one store know of each other: who is there,
// who does what only one of them is to do, and what each of them knows that the store does
// not hold. Nothing that proxies or callers are served with depends on it: a replica that
// cannot be asked is named, and the others answer without it.
//
// It knows nothing of what is asked, done or answered: the wiring hands it handlers and
// work by name. See DESIGN.md. It may import store.
package replica
