module github.com/dynalock/dynalock/proof

go 1.26.0

replace github.com/dynalock/dynalock => ../

require github.com/anishathalye/porcupine v1.3.1
