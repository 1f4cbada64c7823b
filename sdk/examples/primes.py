"""Count primes on the mesh: many short calls, in chunks that travel as one unit each."""

from meshd_sdk import Mesh


def is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


if __name__ == "__main__":
    with Mesh() as mesh:
        print(sum(mesh.map(is_prime, range(200_000), chunksize=None)), "primes below 200,000")
