package dynalock

import "maps"

// This file is the list of the kinds: what the engine has to know of all kinds together. The rest of a kind is in its
// own file.

// ofOneTenure are the attributes of kinds that end with the tenure that wrote them.
const ofOneTenure = electionRemove

// attributeNames are the placeholders of all attributes, kindAttributes the names of those that are a kind's.
var (
	attributeNames = union(engineNames, electionNames, runNames, jobNames, tickNames)
	kindAttributes = values(electionNames, runNames)
)

// ordinaryOfKinds are the errors of kinds that are an expected end of a call.
var ordinaryOfKinds = []error{ErrPaused, errFinished}

// lasting reports whether the kind's attributes in an item stay when an operator frees the lock.
func lasting(r *Record) bool { return readRun(r).is }

func union(tables ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, t := range tables {
		maps.Copy(all, t)
	}
	return all
}

func values(tables ...map[string]string) map[string]bool {
	all := map[string]bool{}
	for _, name := range union(tables...) {
		all[name] = true
	}
	return all
}
