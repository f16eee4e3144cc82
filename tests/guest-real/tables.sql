-- Tables that are filled, indexed, joined and changed, in memory.
CREATE TABLE item (id INTEGER PRIMARY KEY, kind INTEGER, name TEXT, price REAL);
CREATE TABLE sale (id INTEGER PRIMARY KEY, item INTEGER, day INTEGER, amount INTEGER);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
INSERT INTO item SELECT i, i * 7 % 23, 'item ' || hex(i * 2654435761 % 65536), (i * 37 % 1000) / 10.0 FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
INSERT INTO sale SELECT i, 1 + i * 7919 % 5000, i * 104729 % 365, 1 + i % 9 FROM n;
CREATE INDEX sale_item ON sale (item, day);
CREATE INDEX item_name ON item (name);
SELECT kind, count(*), sum(amount), round(sum(amount * price), 2) FROM sale JOIN item ON item.id = sale.item GROUP BY kind ORDER BY 4 DESC;
SELECT name, count(*) FROM item WHERE name LIKE '%3A%' GROUP BY name ORDER BY 2 DESC, 1 LIMIT 20;
UPDATE sale SET amount = amount + 1 WHERE day BETWEEN 100 AND 200;
DELETE FROM sale WHERE item IN (SELECT id FROM item WHERE kind = 5);
SELECT day / 30, sum(amount), max(item) FROM sale GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM sale a JOIN sale b ON a.item = b.item AND a.day < b.day WHERE a.amount = 3;
