"""Objects, dictionaries, strings, generators and big numbers."""
import sys


class Vector:
    __slots__ = ('x', 'y', 'z')

    def __init__(self, x, y, z):
        self.x, self.y, self.z = x, y, z

    def __add__(self, other):
        return Vector(self.x + other.x, self.y + other.y, self.z + other.z)

    def dot(self, other):
        return self.x * other.x + self.y * other.y + self.z * other.z


def primes(limit):
    sieve = bytearray([1]) * (limit + 1)
    for n in range(2, limit + 1):
        if sieve[n]:
            yield n
            sieve[n * n::n] = bytes(len(range(n * n, limit + 1, n)))


def count_words(path):
    counts = {}
    with open(path, encoding='utf-8', errors='replace') as file:
        for line in file:
            for word in line.replace('(', ' ').replace('.', ' ').split():
                counts[word] = counts.get(word, 0) + 1
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def main():
    position = Vector(0.0, 0.0, 0.0)
    for n in range(100000):
        position = position + Vector(n * 0.5, 1.0, -n * 0.25)
    print(position.dot(Vector(1.0, 2.0, 3.0)))
    print(sum(primes(200000)))
    words = count_words(sys.argv[1])
    print(len(words), words[:20])
    big = 1
    for n in range(1, 1200):
        big *= n
    print(len(str(big)), ''.join(reversed(str(big)))[1000:1040])


main()
